"""The model: data, preprocessing, architectures, training, evaluation, export and the serving path. Imports no app
of ours.
"""
