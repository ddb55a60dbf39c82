"""The peers at the best use of their documented interfaces, set up once and then called.

They return maps at the layer's resolution, after the ReLU, neither normalised nor resized, unless a case says
otherwise.
"""
