"""Fitting: how a training spends its steps. One loop for every rung that moves the encoder.

`table` says what a user may set; `trained` which weights move; `objective` what they are moved towards;
`loop` takes the steps, over `checkpoint`s; `rate` finds the learning rate; `ladder` the rung.
"""
