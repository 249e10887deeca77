"""The choices that the command line names in its help, in a module that needs no library."""

from typing import Literal

ExportTarget = Literal["parquet", "text", "webdataset"]
"""File format of exported rewrites."""

ImportJoin = Literal["id", "caption", "basename"]
"""What joins the rows of imported texts to samples; see `rewriting.transfer.line_index`."""

ModelLayout = Literal["open_clip", "hugging_face"]
"""Library that an exported model is for."""

JOB_VERBS = ("rewrite", "train", "run", "tune", "evaluate", "estimate", "plan", "doctor")
"""The verbs that can be submitted as a Ray job."""
