"""Makes a notebook's recording and outputs: replies written by hand in a capable model's place, run on the real data.

    python notebooks/scripted/build.py quickstart        # or several names, or `all`

For each name there is a module beside this file, `NAME.py`, and a notebook, `NN_NAME.ipynb`. The module has

- `REPLIES`: what the main model replies, in the order in which it is asked, over the whole notebook,
- `sub_model(prompt)`: what the sub-model replies to `llm_query` and `llm_batch`,
- `CHILDREN` (optional): a function of a request of a child run (`rlm_query`) that makes the reply; by the text of the
  request, since children ask in any order.

The notebook is run twice: with the scripted model and `--record` in place of `--replay`, then as it ships, from the
recording. No model is asked. The code in the replies runs for real, in the sandbox, on the real data; the recording says
who wrote the replies. What differs from run to run is taken out of the notebook; its outputs stay.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent.parent
SETUP = """\
import sys; sys.path.insert(0, 'scripted')
from build import scripted
import rlm_kernel
rlm_kernel.configure(**scripted({name!r}))
"""
NOTE = "Written by hand (notebooks/scripted/{name}.py); no model was asked. Token counts are estimates."
KEPT = ("kernelspec", "language_info")
"""Of a notebook's metadata."""


def scripted(name: str) -> dict[str, Any]:
    """The options that make the scripted models of a notebook answer: called in the notebook that is recorded."""
    import rlm_kernel

    module = importlib.import_module(name)
    children = getattr(module, "CHILDREN", None)
    sub = rlm_kernel.ScriptedModel([], name="claude-haiku-5-5", sub=module.sub_model)
    if children is not None:
        answered = sub.complete

        async def complete(request: Any, on_delta: Any = None) -> Any:
            if request.kind == "sub":
                return await answered(request, on_delta)
            child = rlm_kernel.ScriptedModel([children(request)], name=sub.name)
            return await child.complete(request, on_delta)

        sub.complete = complete  # type: ignore[method-assign]  # a child's turns come in any order
    return {"model": rlm_kernel.ScriptedModel(module.REPLIES, name="claude-sonnet-5-5"), "sub_model": sub}


def build(name: str) -> None:
    """Record and run one notebook."""
    (path,) = HERE.glob(f"[0-9][0-9]_{name}.ipynb")
    recording = path.with_suffix(".recording.json")
    recording.unlink(missing_ok=True)
    notebook: Any = nbformat.read(path, as_version=4)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    cells = [
        SETUP.format(name=name),
        *(source.replace("--replay", "--record").replace("replay=", "record=") for source in code),
    ]
    run(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells], metadata=notebook.metadata))
    document = json.loads(recording.read_text(encoding="utf-8"))
    document["note"] = NOTE.format(name=name)
    recording.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    run(notebook)
    clean(notebook)
    nbformat.write(notebook, path)
    print(path.name, f"{recording.stat().st_size:,} bytes of recording")


def run(notebook: Any) -> None:
    """Execute a notebook in its folder."""
    NotebookClient(
        notebook,
        timeout=300,
        coalesce_streams=True,  # else what is printed slowly is saved in pieces
        resources={"metadata": {"path": str(HERE)}},
    ).execute()


def clean(notebook: Any) -> None:
    """Take out what differs from run to run: times, widgets, a machine's version of Python."""
    notebook.metadata = nbformat.from_dict({k: v for k, v in notebook.metadata.items() if k in KEPT})
    notebook.metadata.get("language_info", {}).pop("version", None)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02}"
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k in ("tags", "editable")})


if __name__ == "__main__":
    names = sys.argv[1:]
    if names == ["all"]:
        names = [path.stem[3:] for path in sorted(HERE.glob("[0-9][0-9]_*.ipynb"))]
    for each in names:
        build(each)
