"""Search spaces: the space file, its checks, and the configurations it holds.

Front door: `space.load_space`; `configurations` counts and lists what a space holds, `shipped` has sepsearch's own.
"""
