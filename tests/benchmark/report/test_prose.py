from nnunet_rw.benchmark.report.page import markdown_html


def test_blocks():
    text = "### A & B\n\nOne\nline of `x < y` and **bold**.\n\n- first\n- second, `a`\n  goes on\n"
    assert markdown_html(text, level=4) == (
        "<h4>A &amp; B</h4>\n"
        "<p>One\nline of <code>x &lt; y</code> and <strong>bold</strong>.</p>\n"
        "<ul>\n<li>first</li>\n<li>second, <code>a</code>\n  goes on</li>\n</ul>"
    )


def test_tags_are_text():
    assert markdown_html("<b>a</b> `</code><script>`", level=3) == (
        "<p>&lt;b&gt;a&lt;/b&gt; <code>&lt;/code&gt;&lt;script&gt;</code></p>"
    )


def test_nothing():
    assert markdown_html(" \n\n", level=3) == ""
