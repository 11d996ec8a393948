"""What axe-core finds wrong in a page, with the contrast of its text among it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_RUN = """where => axe.run(where).then(found => {
    const contrast = of => of.filter(one => one.id === 'color-contrast').flatMap(one => one.nodes);
    const elementOf = node => document.querySelector(node.target[0]);
    const inSight = node => {
        const {left, right, top, bottom} = elementOf(node).getBoundingClientRect();
        const seen = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
        return elementOf(node).contains(seen);
    };
    const say = node => {
        const element = elementOf(node);
        const own = [...element.childNodes].filter(child => child.nodeType === Node.TEXT_NODE);
        return [own.map(text => text.data).join(''), node.any.map(one => one.message).join(' ')];
    };
    return {
        wrong: found.violations.map(one => [one.id, one.nodes.map(
            node => `${node.html.slice(0, 200)} ${node.any.map(any => any.message).join(' ')}`)]),
        judged: contrast(found.passes).length + contrast(found.violations).length,
        open: contrast(found.incomplete).filter(inSight).map(say),
    };
})"""


def findings(web: Any, script: Path, where: Mapping[str, str]) -> list[str]:
    """What axe finds wrong, one line each; also each text in sight whose contrast it can't tell.

    That it judges none of the texts fails the test: so it says nothing of their contrast.

    Args:
        web: Playwright's page.
        script: The script of axe-core.
        where: Selectors: ``include``, of what is looked at, and ``exclude``.
    """
    web.evaluate(script.read_text())
    # A front end's body has no height, and axe takes all in it for hidden.
    web.evaluate("() => { document.body.style.minHeight = '100vh'; }")
    found = web.evaluate(_RUN, dict(where))
    assert found["judged"], "axe judged the contrast of no text"
    wrong = [f"{name}: {node}" for name, nodes in found["wrong"] for node in nodes]
    # Of a glyph alone axe can't tell; their colours have a test of their own.
    unsure = [(text, why) for text, why in found["open"] if re.search(r"\w", text)]
    return wrong + [f"its contrast isn't known: {text!r}: {why}" for text, why in unsure]
