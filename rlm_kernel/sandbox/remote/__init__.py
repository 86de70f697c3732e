"""Sandboxes that share nothing with this machine but a connection: other provisioners' kernels, Jupyter servers'.

Variables go there in pieces, as binary buffers of the messages that load them; interrupts
go as Jupyter's protocol says.
"""
