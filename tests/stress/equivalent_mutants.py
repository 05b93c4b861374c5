"""Mutants that no test can tell from the original, with the reason: file, text of the line, change, reason."""

EQUIVALENT = [
    (
        "data/sections",
        'line = text.rfind("\\n", 0, start) + 1',
        "0 -> 1",
        "a newline that begins the text then counts as part of the first line, of which spaces are stripped",
    ),
    (
        "data/sections",
        'return folded(header).strip(":：*_ ")',
        "':：*_ ' -> 'X:：*_ '",
        "a folded header holds no capital letter",
    ),
    (
        "data/sections",
        'languages: dict[str, dict[str, list[str]]] = parse_yaml(text, where="section_headers.yaml")',
        "'section_headers.yaml' -> 'Xsection_headers.yaml'",
        "named where the file is damaged, which comes with the package",
    ),
    (
        "data/display",
        "return 1 / (1 + np.exp(np.clip(-4 / width * (pixels - center), -80, 80)))",
        "80 -> 81",
        "a limit against overflow, beyond which the value is 0 or 1 in float32",
    ),
    (
        "data/pixels",
        "if (low, high) != (0, 255):",
        "255 -> 256",
        "a short cut: the table that it passes over changes nothing",
    ),
]
