"""Portraits of birds, drawn from three numbers."""

from __future__ import annotations

CRESTS = [
    "",  # smooth
    '<path d="M31 15c-6-2-7-7-6-10 3 1 7 3 8 8zM37 13c-2-5 0-9 3-11 2 3 2 8 0 11z"/>',  # tuft
    '<path d="M36 14C32 3 42-1 47 4c-4-1-7 2-6 9z"/>',  # plume
    '<path d="M26 20c-7 1-12-3-12-7 5-1 11 0 15 3z"/>',  # nape
]


def bird(hue: int, beak_hue: int, crest: int) -> str:
    """Draw a bird as SVG.

    Args:
        hue: Of its feathers, in degrees.
        beak_hue: Of its beak, in degrees.
        crest: Which of ``CRESTS`` it wears.
    """
    sky, feathers, wing, belly = (
        f"hsl({(hue + 20) % 360} 55% 86%)",
        f"hsl({hue} 52% 46%)",
        f"hsl({hue} 56% 34%)",
        f"hsl({hue} 60% 78%)",
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">'
        f'<rect width="64" height="64" fill="{sky}"/>'
        f'<g fill="{feathers}">{CRESTS[crest]}'
        '<path d="M14 44 2 58l16-4z"/>'
        '<ellipse cx="31" cy="46" rx="20" ry="18"/><circle cx="36" cy="26" r="14"/></g>'
        f'<path d="M36 36c8 0 15 6 15 14s-8 14-18 14c-5-12-4-20 3-28z" fill="{belly}"/>'
        f'<path d="M12 42c4 12 14 16 24 10-2-10-12-14-24-10z" fill="{wing}"/>'
        f'<path d="m48 22 12 5-12 6c-2-3-2-8 0-11z" fill="hsl({beak_hue} 90% 55%)"/>'
        '<circle cx="40" cy="23" r="4.4" fill="#fff"/><circle cx="41" cy="23.4" r="2.6"/>'
        '<circle cx="42" cy="22.4" r=".9" fill="#fff"/></svg>'
    )
