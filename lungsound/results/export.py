"""A finished run's ensemble as one file, front end included, which needs torch alone."""

import io

import torch
from torch import Tensor, nn
from torch.export import Dim

from lungsound.results.members import RunMembers
from lungsound.signal.chunks import split_into_chunks
from lungsound.storage.keys import canonical_json


class SegmentEnsemble(nn.Module):
    """Waveforms of whole segments [B, L] at the run's rate -> probabilities [B, K], in float32."""

    def __init__(self, parts: RunMembers) -> None:
        super().__init__()
        self.features, self.members = parts.features, nn.ModuleList(parts.networks)
        self.chunks = parts.segments.chunks

    def forward(self, waveforms: Tensor) -> Tensor:
        """Average over members and chunks, as evaluation does."""
        inputs = split_into_chunks(self.features(waveforms), self.chunks)
        flat = inputs.flatten(0, 1).unsqueeze(1)
        members = torch.stack([member(flat).softmax(-1) for member in self.members])
        means = members.mean(0)
        return means.view(-1, self.chunks, means.shape[-1]).mean(1)


def export_torch(parts: RunMembers) -> bytes:
    """Return the content of a .pt2 file; `torch.export.load(FILE).module()` takes any batch size.

    Its extra file `lungsound.json` has the labels, the rate in Hz, and the segment's samples.
    """
    length = parts.segments.length
    module = SegmentEnsemble(parts).train(False).requires_grad_(False)
    for parameter in module.parameters():  # channels_last: torch would warn of incomplete tensors
        parameter.data = parameter.data.contiguous()
    program = torch.export.export(
        module, (torch.zeros(2, length),), dynamic_shapes={"waveforms": {0: Dim("batch")}}
    )
    facts = {
        "labels": list(parts.labels),
        "sample_rate": parts.features.sample_rate,
        "samples": length,
        "padding": parts.segments.padding,
    }
    buffer = io.BytesIO()
    extra = {"lungsound.json": canonical_json(facts).decode()}
    torch.export.save(program, buffer, extra_files=extra)
    return buffer.getvalue()
