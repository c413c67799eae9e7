"""Which modules of the machinery are loaded; nothing else."""

pytest_plugins = [
    "fixtures.options",
    "fixtures.selection",
    "fixtures.environment",
    "fixtures.requirement",
    "fixtures.profiles",
    "fixtures.waivers",
    "fixtures.devices",
    "fixtures.evidence",
    "fixtures.vacuity",
    "fixtures.localisation.plugin",
    "fixtures.training",
    "fixtures.reference",
    "fixtures.command",
    "fixtures.probe",
    "fixtures.local_files",
    "fixtures.ranks",
    "fixtures.recording",
    "fixtures.guard",
    "fixtures.repetition",
    "fixtures.journaling",
]
