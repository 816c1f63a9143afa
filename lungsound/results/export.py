"""A finished run's ensemble as one file, front end included, which needs no lungsound."""

import io

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

from lungsound.errors import ConfigError
from lungsound.results.members import RunMembers
from lungsound.signal.chunks import split_into_chunks
from lungsound.storage.keys import canonical_json

ANY_BATCH = {"waveforms": {0: Dim("batch")}}
MAX_ERROR = 1e-5  # of a probability


class SegmentEnsemble(nn.Module):
    """Waveforms of whole segments [B, L] at the run's rate -> probabilities [B, K], in float32."""

    def __init__(self, parts: RunMembers) -> None:
        super().__init__()
        self.features, self.members = parts.features, nn.ModuleList(parts.networks)
        self.segments = parts.segments

    def forward(self, waveforms: Tensor) -> Tensor:
        """Average over members and chunks, as evaluation does."""
        log_mels = self.features(waveforms)
        inputs = split_into_chunks(log_mels, self.segments.chunks, self.segments.rolls)
        flat = inputs.flatten(0, 1).unsqueeze(1)
        members = torch.stack([member(flat).softmax(-1) for member in self.members])
        means = members.mean(0)
        return means.view(-1, inputs.shape[1], means.shape[-1]).mean(1)


def export_torch(parts: RunMembers) -> bytes:
    """Return the content of a .pt2 file; `torch.export.load(FILE).module()` takes any batch size.

    Its extra file `lungsound.json` has the labels, the rate in Hz, and the segment's samples.
    """
    module, example = _module_and_example(parts)
    program = torch.export.export(module, (example,), dynamic_shapes=ANY_BATCH)
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={"lungsound.json": _description(parts)})
    return buffer.getvalue()


def export_onnx(parts: RunMembers) -> bytes:
    """Return the content of an .onnx file, from `waveforms` to `probabilities`, for any batch size.

    Its metadata `lungsound` is what `lungsound.json` is in `export_torch`. Raises ConfigError if
    onnxruntime computes other probabilities than torch, or a package is missing.
    """
    try:
        import onnxruntime  # type: ignore[import-untyped]
        import onnxscript  # noqa: F401 - torch.onnx needs it
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--format onnx: expected the package {error.name}, which the extra `export` installs: "
            "pip install 'lungsound[export]'"
        ) from error
    module, example = _module_and_example(parts)
    program = torch.onnx.export(
        module, (example,), dynamo=True, dynamic_shapes=ANY_BATCH, verbose=False,
        input_names=["waveforms"], output_names=["probabilities"],
        optimize=False,  # the optimizer drops the addition of `features.floor`, as if it were 0
    )  # fmt: skip
    assert program is not None
    program.model.metadata_props["lungsound"] = _description(parts)
    content: bytes = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content)
    loud = np.random.default_rng(0).normal(0, 0.1, (3, example.shape[1]))
    waveforms = (loud * [[1], [1e-3], [1e-6]]).astype(np.float32)  # the last: below the floor
    answers = session.run(None, {"waveforms": waveforms})[0]
    error_size = np.abs(answers - module(torch.from_numpy(waveforms)).numpy()).max()
    if not error_size <= MAX_ERROR:
        raise ConfigError(
            f"--format onnx: expected torch's probabilities to {MAX_ERROR}, but onnxruntime "
            f"{onnxruntime.__version__} differs by {error_size:.1g}. Use --format torch"
        )
    return content


def _module_and_example(parts: RunMembers) -> tuple[SegmentEnsemble, Tensor]:
    module = SegmentEnsemble(parts).train(False).requires_grad_(False)
    for parameter in module.parameters():  # channels_last: torch would warn of incomplete tensors
        parameter.data = parameter.data.contiguous()
    return module, torch.zeros(2, parts.segments.length)


def _description(parts: RunMembers) -> str:
    facts = {
        "labels": list(parts.labels.labels),
        "sample_rate": parts.features.sample_rate,
        "samples": parts.segments.length,
        "padding": parts.segments.padding,
    }
    return canonical_json(facts).decode()
