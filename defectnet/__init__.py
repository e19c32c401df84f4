"""DefectNet: which foreign elements sit in a crystal, and how much of each, from its vibrational spectrum.

    from defectnet import Predictor, read_query, released_model

    predictor = Predictor.load(released_model())
    question = read_query("examples/Si.csv", "Si", reference="examples/Si-pristine.csv")
    (answer,) = predictor.predict([question.query])

Every name below is loaded when it is first used, so that `import defectnet` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from defectnet.version import __version__ as __version__

if TYPE_CHECKING:
    from defectnet.check import Check, check_answer
    from defectnet.client import Client
    from defectnet.errors import DefectNetError, InputError
    from defectnet.host import Defect, Host
    from defectnet.io.tables import read_spectra
    from defectnet.model.explain import Explanation, explain
    from defectnet.model.predictor import Predictor
    from defectnet.pages.plots import plot_prediction
    from defectnet.pages.reading_plot import plot_reading
    from defectnet.pages.report import report_answer, write_report
    from defectnet.prediction import ElementVerdict, Prediction
    from defectnet.query import Query
    from defectnet.readers import Reading, compatible, is_parquet, load_phonopy, read_file, read_spectrum
    from defectnet.readers.query import QueryReading, read_query
    from defectnet.readers.resolution import read_resolution
    from defectnet.readers.sketch import sketch_spectrum
    from defectnet.references import PristineHost, library_reference
    from defectnet.released import released_model
    from defectnet.spectrum import Spectrum

__all__ = [
    "Check",
    "Client",
    "Defect",
    "DefectNetError",
    "ElementVerdict",
    "Explanation",
    "Host",
    "InputError",
    "Prediction",
    "Predictor",
    "PristineHost",
    "Query",
    "QueryReading",
    "Reading",
    "Spectrum",
    "check_answer",
    "compatible",
    "explain",
    "is_parquet",
    "library_reference",
    "load_phonopy",
    "plot_prediction",
    "plot_reading",
    "read_file",
    "read_query",
    "read_resolution",
    "read_spectra",
    "read_spectrum",
    "released_model",
    "report_answer",
    "sketch_spectrum",
    "write_report",
]

_HOME = {
    "defectnet.check": ("Check", "check_answer"),
    "defectnet.client": ("Client",),
    "defectnet.errors": ("DefectNetError", "InputError"),
    "defectnet.host": ("Defect", "Host"),
    "defectnet.io.tables": ("read_spectra",),
    "defectnet.model.explain": ("Explanation", "explain"),
    "defectnet.model.predictor": ("Predictor",),
    "defectnet.pages.plots": ("plot_prediction",),
    "defectnet.pages.reading_plot": ("plot_reading",),
    "defectnet.pages.report": ("report_answer", "write_report"),
    "defectnet.prediction": ("ElementVerdict", "Prediction"),
    "defectnet.query": ("Query",),
    "defectnet.readers": ("Reading", "compatible", "is_parquet", "load_phonopy", "read_file", "read_spectrum"),
    "defectnet.readers.query": ("QueryReading", "read_query"),
    "defectnet.readers.resolution": ("read_resolution",),
    "defectnet.readers.sketch": ("sketch_spectrum",),
    "defectnet.references": ("PristineHost", "library_reference"),
    "defectnet.released": ("released_model",),
    "defectnet.spectrum": ("Spectrum",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'defectnet' has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
