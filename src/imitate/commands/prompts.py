"""``imitate prompts``: what zero-shot classification asks, and what a text encoder makes of it."""

from imitate.names import AnyPath, Language, Names, several


def prompts(
    *,
    model: str | None = None,
    data: AnyPath | None = None,
    prompts: Names = (),
    language: Language | None = None,
    device: str = "auto",
) -> None:
    """Show the prompts of each class; with a model, check that its text encoder distinguishes both sides.

    For each class, the sentences with (+) and without (-) the finding are shown, then the words that the text encoder
    does not know, and the cosine of the two sides. A class is skipped if no sentence of a side is known, or if both
    sides have the same embedding. If a class of your own prompts has to be skipped, the exit code is 2.

    Args:
        model: A run folder, an exported folder, hf-hub:OWNER/NAME@REVISION, or a published encoder (imitate models).
        data: A prepared folder, whose classes and language are used; default: all built-in classes.
        prompts: 'Class=positive|negative' or 'Class=phrase', or a YAML file; default: the built-in prompts.
        language: Language of the built-in prompts and of the sentences around a phrase.
        device: cpu, cuda, ...; auto uses a GPU if there is one.
    """
    import sys
    from pathlib import Path

    from imitate.inference.prompt_check import shown_prompts

    folder = None if data is None else Path(data)
    for line in shown_prompts(model, folder, several(prompts), language=language, device=device):
        sys.stdout.write(f"{line}\n")
