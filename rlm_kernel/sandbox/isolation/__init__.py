"""Keeps the sandbox's process from everything but its data: what it may reach, how that is enforced, and proof.

`policy` says what is allowed, `levels` what this machine can enforce, `bubblewrap` writes the command line, `inside/`
is what locks the process down from within, and `provisioner` starts it all as Jupyter starts kernels.
"""
