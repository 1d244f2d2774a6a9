"""Generated chest films in the layout that CLAIMED's pipeline reads, with planted truths.

The films are drawings, good enough to need a trained eye: two lung fields, ribs, clavicles, spine,
heart and diaphragm, in a pose and an exposure that vary. A finding is a set of opacities inside the
lungs. Around them stands what real collections contain: rows without image, undecodable, truncated
and duplicate files, blanks, several films a patient, mixed pixel modes.
"""

from tasks.data.synthetic.generate import generate

__all__ = ["generate"]
