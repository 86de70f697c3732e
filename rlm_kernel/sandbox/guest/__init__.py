"""The code that runs inside the sandbox kernel.

Standard library only, no import of anything outside this folder: the files are sent as source to whatever Python
the kernelspec names. The host imports the same files where both sides must agree (`describe`, `wire`).
"""
