# The same by the name under which MMagic's configs of converted SNGANs inherit it.
_base_ = './gen_default_runtime.py'
