"""Where model-written code runs: the `Sandbox` protocol, a Jupyter kernel behind it, and a fake for tests."""
