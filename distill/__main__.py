"""`python -m distill`."""

import sys

READING_VERBS = ("evaluate", "report", "search", "export")  # they read run folders, which may be from somebody else
CODE_OPTIONS = ("--trust", "--source", "--config", "-c")  # with which a user names code of his own


def may_import_own_code(arguments: list[str]) -> bool:
    """Whether a command may have to import the user's own code.

    >>> may_import_own_code(["train", "--model.losses", "mine.Loss"]), may_import_own_code(["search", "runs/a", "a query"])
    (True, False)
    """
    if not arguments or arguments[0] not in READING_VERBS:
        return True
    return any(argument.partition("=")[0] in CODE_OPTIONS or argument.startswith("-c") for argument in arguments)


if __name__ == "__main__":
    # Python puts the working folder first, which may be somebody else's and have a faiss.py in it; before anything else is imported
    if not sys.flags.safe_path and not may_import_own_code(sys.argv[1:]):
        del sys.path[0]
    from distill.cli.main import main

    sys.exit(main())
