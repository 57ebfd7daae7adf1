"""The demo: four desks answer real mail, the mail changes, and the loop closes by itself."""
