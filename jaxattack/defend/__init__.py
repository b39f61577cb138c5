"""Defences against backdoors: on what is read, on the weights, on what is written."""
