"""What `mpcdp bench protocol` makes of its measurements: one JSON object, one page, the model, very many owners."""

import json
import re
from dataclasses import fields, replace

import pytest
from protocol_samples import ROWS, made_up_peer, made_up_simulation

from mpcdp.bench.many_owners import predict
from mpcdp.bench.peers import PeerResult
from mpcdp.bench.protocol import PHASES, ProtocolRow
from mpcdp.bench.protocol_page import results_page
from mpcdp.bench.protocol_results import (
    PEER_HEADER,
    PROCESSOR_HEADER,
    ROW_HEADER,
    SERVER_HEADER,
    ProtocolResults,
    fitted,
    our_result,
)
from mpcdp.errors import InputError


def results() -> ProtocolResults:
    peers = [our_result(ROWS[0]), made_up_peer("mpyc"), made_up_peer("spu", "installing spu==0.9.5 <failed>")]
    many = predict(ROWS, owners=1_000_000, simulation=made_up_simulation)
    return ProtocolResults(ROWS, peers, fitted(ROWS), many, ["a note"])


def test_the_document_is_json_with_every_field() -> None:
    document = json.loads(json.dumps(results().document()))
    assert document["kind"] == "protocol"
    assert set(document) == {"kind", "command", "rows", "peers", "model", "many_owners", "notes", "machine", "versions"}
    assert set(document["rows"][0]) == {field.name for field in fields(ProtocolRow)}
    assert set(document["rows"][0]) >= {
        *("owners", "dimension", "parties", "round_trip_ms", "bandwidth_mbit", "seconds_by_phase", "bytes"),
        *(
            "message_rounds",
            "party_peak_memory_mib",
            "processor_seconds",
            "startup_processor_seconds",
            "bytes_received",
        ),
    }
    assert set(document["rows"][0]["seconds_by_phase"]) == set(PHASES)
    assert [row["bandwidth_mbit"] for row in document["rows"]] == [None] * 6 + [100.0]
    assert set(document["peers"][0]) == {field.name for field in fields(PeerResult)}
    assert document["peers"][2]["seconds"] is None
    assert document["peers"][2]["problem"] == "installing spu==0.9.5 <failed>"
    assert len(document["model"]["residuals"]) == 6
    many = document["many_owners"]
    assert set(many) == {
        *("owners", "dimension", "servers", "busiest", "message_rounds", "round_trip_seconds", "predicted_seconds"),
        "simulation",
    }
    assert set(many["servers"]["last party"]) == {
        *("model", "bytes_received", "predicted_seconds", "simulated_seconds", "ratio"),
    }
    assert many["servers"]["first party"]["ratio"] is None
    assert many["simulation"]["party"]["upload_seconds"] == 30.0


def test_a_document_is_read_back_whole() -> None:
    for found in (results(), replace(results(), model=None, many=None, peers=[])):
        document = json.loads(json.dumps(found.document()))
        again = ProtocolResults.of(document)
        assert json.loads(json.dumps(again.document())) == document
        assert (again.row_cells(), again.many_text()) == (found.row_cells(), found.many_text())
    document["rows"][0]["seconds"] = "soon"
    with pytest.raises(InputError, match="bench protocol"):
        ProtocolResults.of(document)


def test_the_model_is_fitted_to_the_rows_without_a_limit() -> None:
    model = fitted(ROWS)
    assert (model.start_seconds, model.rounds_factor) == pytest.approx((1.0, 0.5))
    assert (model.seconds_per_byte, model.seconds_per_owner) == pytest.approx((1e-8, 0.005))
    slower = replace(ROWS[-1], seconds=100.0)
    assert fitted([*ROWS[:-1], slower]) == model


def test_tables_have_a_cell_under_every_heading() -> None:
    found = results()
    assert {len(cells) for cells in found.row_cells()} == {len(ROW_HEADER)}
    assert {len(cells) for cells in found.peer_cells()} == {len(PEER_HEADER)}
    assert found.row_cells()[5][:6] == ["10", "100", "3", "20 ms", "-", "1.66 s"]
    assert found.row_cells()[5][-1] == "1.66 s"
    assert found.row_cells()[6][-1] == "-"
    assert {len(cells) for cells in found.processor_cells()} == {len(PROCESSOR_HEADER)}
    # 40 ms an owner; the last party has what it receives, 0.5 s and 2 ms for each of 10 owners, on top of the others.
    assert found.processor_cells()[0][4:] == ["40 ms", "110 ms", "530 ms", "530 ms", "300 ms", "9.00 s"]
    assert {len(cells) for cells in found.server_cells()} == {len(SERVER_HEADER)}
    assert [cells[0] for cells in found.server_cells()] == ["coordinator", "first party", "last party"]
    assert found.server_cells()[2][1:4] == ["500 ms", "20.0 ns", "2.00 ms"]
    failed = found.peer_cells()[2]
    assert failed[2] == "failed"
    assert "installing spu==0.9.5" in failed[5]
    without = replace(found, model=None, many=None)
    assert {cells[-1] for cells in without.row_cells()} == {"-"}
    assert without.server_cells() == []
    assert "no cost model" in without.model_text()


def test_the_model_says_how_far_it_goes_and_how_far_off_it_is() -> None:
    assert "10 to 300 owners, 100 to 30,000 coordinates and round trips of up to 20 ms" in results().model_text()
    assert "farthest off is 0 % of a measured time" in results().model_text()
    # A row twice as slow as the model that fits all others.
    slower = replace(ROWS[1], seconds=2 * ROWS[1].seconds)
    rows = [ROWS[0], slower, *ROWS[2:]]
    model = fitted(rows)
    farthest = max(abs(each) / row.seconds for each, row in zip(model.residuals, rows, strict=False))
    text = replace(results(), rows=rows, model=model).model_text()
    assert farthest > 0.1
    assert f"farthest off is {100 * farthest:.0f} %" in text


def test_the_page_loads_nothing_and_shows_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["mpcdp", "bench", "protocol"])
    page = results_page(results()).render()
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", page)
    assert "<script" not in page
    assert page.count("data:image/png;base64,") == 2
    for text in ("mpcdp bench protocol", "a note", "installing spu==0.9.5 &lt;failed&gt;", "message rounds", "numpy"):
        assert text in page
    bare = results_page(replace(results(), model=None, many=None, notes=[], peers=[])).render()
    assert bare.count("data:image/png;base64,") == 1
