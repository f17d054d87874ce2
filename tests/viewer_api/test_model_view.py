"""The page of a model."""

from __future__ import annotations

from pathlib import Path

from viewer_api.model_view import card_html


def test_pictures_of_a_card_are_left_out_however_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "MODEL_CARD.md").write_text(
        "# Spots\n\n![a](b.png) ![of [two] parts](c.png) ![named][d] ![e](e(1).png) "
        "`![code](f.png)`\n\n[d]: d.png\n"
    )
    html = card_html(tmp_path)
    assert "<img" not in html
    assert html.split() == ["<h1>Spots</h1>", "<p>", "<code>![code](f.png)</code></p>"]
