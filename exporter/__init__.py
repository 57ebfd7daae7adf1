"""The exporter serves sealed versions over HTTP and records every prediction.

It owns the tables of predictions, labels, versions and deployments: whoever writes a row defines it.
"""
