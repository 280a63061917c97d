"""A plugin for pytest: that a law is broken is enough, the smallest example may stay unknown."""

from hypothesis import Phase, settings

settings.register_profile("quick", phases=[Phase.explicit, Phase.generate])
settings.load_profile("quick")
