"""A trial of Syne Tune's local backend: a process of its own that gets its configuration as arguments."""

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))


def main() -> None:
    """Train, report every epoch."""
    import task
    from syne_tune import Reporter

    space, parser = task.space(), ArgumentParser()
    parser.add_argument("--folder", type=Path)
    kinds: dict[str, Any] = {}
    for name, parameter in space.parameters.items():
        kinds[name] = type(parameter.choices[0] if parameter.choices else parameter.low)
        parser.add_argument(f"--{name}", type=kinds[name])
    parser.add_argument("--st_checkpoint_dir", type=Path)  # …/number of the trial/checkpoints
    values = vars(parser.parse_known_args()[0])
    folder, checkpoints, report = values.pop("folder"), values.pop("st_checkpoint_dir"), Reporter()
    task.train(
        values,
        task.load_data(folder),
        checkpoints.parent.name,
        lambda epoch, ratio, state: report(epoch=epoch, ratio=ratio),
    )


if __name__ == "__main__":
    main()
