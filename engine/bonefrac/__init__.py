"""bonefrac: looks for bone fractures in folders of radiographs. It assists; it does not diagnose."""

__version__ = "0.1.0"
