"""What locks a process down before it becomes the sandbox kernel: standard library only, sent as source.

Nothing here trusts anything: it runs before the first foreign byte, and afterwards it cannot be undone.
"""
