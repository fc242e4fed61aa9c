"""The cells of a notebook in the process of the tests: where one is to raise, no kernel is needed."""

import matplotlib
import nbformat
import pandas as pd


def run_cells(path, parameters):
    """Run the code of a notebook, cell by cell, until one raises; settings are as before then."""
    names = {"__name__": "__main__"}
    with matplotlib.rc_context(), pd.option_context("display.float_format", None):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type != "code":
                continue
            exec(compile(cell.source, f"{path.name}, cell {cell.id}", "exec"), names)
            if "parameters" in cell.metadata.get("tags", []):
                names.update(parameters)
