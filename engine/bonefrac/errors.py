"""What can go wrong, as one tree.

BonefracError               anything bonefrac raises on purpose; its text is one sentence for a person
├── UsageError              the command cannot be carried out as asked (exit status 2)
│   ├── BundleError         a model bundle is missing, changed or not understood
│   └── OutputError         the output folder cannot be used: inside the input, in use, or full
└── FilmError               one file; the run goes on with the next
    ├── NotAnalysed         no radiograph that can be judged (status `not_analysed`)
    └── Unreadable          should be readable and is not (status `failed`)
"""


class BonefracError(Exception):
    """Anything bonefrac raises on purpose."""


class UsageError(BonefracError):
    """The command cannot be carried out as asked; the text says what to do instead."""


class BundleError(UsageError):
    """A model bundle is missing, changed or not understood."""


class OutputError(UsageError):
    """The output folder cannot be used."""


class FilmError(BonefracError):
    """One file gave no finding; the text is the row's `message`."""


class NotAnalysed(FilmError):
    """The file holds no radiograph that can be judged."""


class Unreadable(FilmError):
    """The file should be readable and is not."""
