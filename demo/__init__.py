"""`make demo`: an isolated codespace reaches servers that only this machine can reach.

`__main__` tells the story, `corp` is the private network with its servers, `probes` is what runs in the codespace
before and during the bridge, `traces` proves that nothing was left behind.
"""
