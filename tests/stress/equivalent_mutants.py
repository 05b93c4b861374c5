"""Mutants that no test distinguishes from the original, with the reason: file, text of the line, change, reason."""

EQUIVALENT = [
    (
        "data/sections",
        'line = text.rfind("\\n", 0, position) + 1',
        "0 -> 1",
        "a newline that begins the text then counts as part of the first line, of which spaces are stripped",
    ),
    (
        "data/section_labels",
        'return folded(header).strip(":：*_ ")',
        "':：*_ ' -> 'X:：*_ '",
        "a folded header holds no capital letter",
    ),
    (
        "data/section_labels",
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
    (
        "data/augment",
        "size, extent = config.image_size, images.shape[-1]",
        "1 -> 2",
        "images are square",
    ),
    (
        "data/evaluation",
        "scaled = gray if (black, white) == (0, 1) else gray * (white - black) + black",
        "1 -> 2",
        "a short cut: times 1 plus 0 changes nothing",
    ),
    (
        "data/augment",
        "flip_x = 1 - 2.0 * (uniform(0, 1) < augment.horizontal_flip)",
        "Lt -> LtE",
        "a drawn number that equals the probability, once in 2^24",
    ),
    (
        "data/augment",
        "flip_y = 1 - 2.0 * (uniform(0, 1) < augment.vertical_flip)",
        "Lt -> LtE",
        "a drawn number that equals the probability, once in 2^24",
    ),
    (
        "data/sampler",
        "block = bytearray(2**24)",
        "24 -> 25",
        "how much is read at once",
    ),
    (
        "losses/contrastive",
        "prior = (centred[own] @ centred.T).clamp(0, 1)",
        "1 -> 2",
        "no correlation is above 1 but for rounding",
    ),
    (
        "training/baselines",
        "wanted = soft_targets(None, 1.0, present, targets, own=own, dtype=captions.text.own.dtype)",
        "1.0 -> 2.0",
        "the strength of a prior, where there is none",
    ),
    (
        "training/pretraining",
        "target = soft_targets(None, 1.0, own, dtype=full_precision(text.projected)[0].dtype)",
        "1.0 -> 2.0",
        "the strength of a prior, where there is none",
    ),
    (
        "training/run_folder",
        "return 2**62  # a line cut short by a kill",
        "62 -> 63",
        "a step that no run reaches",
    ),
    (
        "training/step",
        'Own = TypeVar("Own", bound=ContrastOptions | BaselineOptions)',
        "'Own' -> 'XOwn'",
        "for the type checker alone",
    ),
    (
        "training/engine",
        "while process.poll() is None and time.monotonic() < until:",
        "Lt -> LtE",
        "a clock that shows the limit to the nanosecond",
    ),
]
