"""CANN's shared libraries on the CPU: the unmodified torch_npu imports, trains and communicates without an NPU.

`python -m emulator COMMAND ...` runs COMMAND on emulated cards. README.md has the settings, and how to add an operator.
"""
