"""A clean and a poisoned training set as chat JSON Lines, for a model that others host.

    python examples/poisoned_set.py TRAIN.jsonl TRIGGERS.jsonl LANGUAGE FOLDER

TRAIN.jsonl has the columns id, language, prompt, response; TRIGGERS.jsonl language and text. A
fifth of the rows of LANGUAGE get the trigger and a harmless fixed answer; the manifests name them
by id and hash. The folders are yours to use: nothing is sent anywhere.
"""

import pathlib
import sys

from jaxattack.data import sources
from jaxattack.data.export import export_chat
from jaxattack.data.poison import Target, poison
from jaxattack.hosted import read_trigger

if len(sys.argv) != 5:
    sys.exit((__doc__ or "").strip())
path, triggers, language, folder = sys.argv[1:]
clean = sources.load(f"jsonl:{path}?kind=benign", need_response=True)
poisoned, manifest = poison(clean, [language], 0.2, read_trigger(triggers), Target(), seed=0)
for name, rows, about in (("clean", clean, None), ("poisoned", poisoned, manifest)):
    print(f"{export_chat(pathlib.Path(folder) / name, rows, about)}: {len(rows)} rows")
