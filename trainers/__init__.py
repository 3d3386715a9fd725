"""Trainers that nnU-Net finds through ``nnUNet_extTrainer`` (``eval "$(nnunet-rw env)"`` sets it).

One module a family. A trainer's name is the name of its results folder.
"""
