"""What `mpcdp bench protocol` makes of its measurements: one JSON object, one page, the model, very many owners."""

import json
import re
from dataclasses import asdict, fields, replace

import pytest
from protocol_samples import made_up_peer, made_up_row

from mpcdp.bench.peers import PeerResult
from mpcdp.bench.protocol import PHASES, ProtocolRow
from mpcdp.bench.protocol_page import results_page
from mpcdp.bench.protocol_results import (
    PEER_HEADER,
    ROW_HEADER,
    ProtocolResults,
    fitted,
    many_owners,
    our_result,
)
from mpcdp.bench.slow_network import Link
from mpcdp.bench.upload_simulation import Simulation, simulate_uploads
from mpcdp.secret_sharing.owner_set import OwnerSet

ROWS = [
    made_up_row(),
    made_up_row(owners=100),
    made_up_row(owners=300),
    made_up_row(dimension=30_000),
    made_up_row(parties=2),
    made_up_row(link=Link(20)),
    made_up_row(link=Link(0, 100)),
]
SIMULATION = Simulation(
    owners=1_000_000, dimension=100, last_party_seconds=20.0, other_party_seconds=25.0, peak_memory_mib=2000.0
)


def results() -> ProtocolResults:
    model = fitted(ROWS)
    peers = [our_result(ROWS[0]), made_up_peer("mpyc"), made_up_peer("spu", "installing spu==0.9.5 <failed>")]
    return ProtocolResults(ROWS, peers, model, many_owners(ROWS, model, SIMULATION), ["a note"])


def test_the_document_is_json_with_every_field() -> None:
    document = json.loads(json.dumps(results().document()))
    assert set(document) == {"command", "rows", "peers", "model", "many_owners", "notes", "machine", "versions"}
    assert set(document["rows"][0]) == {field.name for field in fields(ProtocolRow)}
    assert set(document["rows"][0]) >= {
        *("owners", "dimension", "parties", "round_trip_ms", "bandwidth_mbit", "seconds_by_phase", "bytes"),
        *("message_rounds", "party_peak_memory_mib"),
    }
    assert set(document["rows"][0]["seconds_by_phase"]) == set(PHASES)
    assert [row["bandwidth_mbit"] for row in document["rows"]] == [None] * 6 + [100.0]
    assert set(document["peers"][0]) == {field.name for field in fields(PeerResult)}
    assert document["peers"][2]["seconds"] is None
    assert document["peers"][2]["problem"] == "installing spu==0.9.5 <failed>"
    assert len(document["model"]["residuals"]) == 6
    assert document["many_owners"]["simulation"]["seconds"] == 25.0


def test_the_model_is_fitted_to_the_rows_without_a_limit() -> None:
    model = fitted(ROWS)
    assert (model.start_seconds, model.rounds_factor) == pytest.approx((1.0, 0.5))
    assert (model.seconds_per_byte, model.seconds_per_owner) == pytest.approx((1e-8, 0.005))
    slower = replace(ROWS[-1], seconds=100.0)
    assert fitted([*ROWS[:-1], slower]) == model


def test_very_many_owners_follow_from_the_rows_that_differ_in_owners_alone() -> None:
    many = many_owners(ROWS, fitted(ROWS), SIMULATION)
    assert many.seconds_per_owner == pytest.approx({10: 0.005, 100: 0.005, 300: 0.005})
    assert many.growth_seconds_per_owner == pytest.approx(0.005)
    # 1 s, 5 ms an owner, and 10 ns for each of the 700 bytes of an owner and of the 600,000 of the parties.
    predicted = 1 + 0.005 * 1e6 + 1e-8 * (700 * 1e6 + 600_000)
    assert many.predicted_seconds == pytest.approx(predicted)
    assert many.ratio == pytest.approx(predicted / 25.0)


def test_one_number_of_owners_does_not_say_what_many_cost() -> None:
    with pytest.raises(ValueError, match="repeat --owners"):
        many_owners([ROWS[0], *ROWS[3:]], fitted(ROWS), SIMULATION)


def test_tables_have_a_cell_under_every_heading() -> None:
    found = results()
    assert {len(cells) for cells in found.row_cells()} == {len(ROW_HEADER)}
    assert {len(cells) for cells in found.peer_cells()} == {len(PEER_HEADER)}
    assert found.row_cells()[5][:6] == ["10", "100", "3", "20 ms", "-", "1.66 s"]
    assert found.row_cells()[5][-1] == "1.66 s"
    assert found.row_cells()[6][-1] == "-"
    failed = found.peer_cells()[2]
    assert failed[2] == "failed"
    assert "installing spu==0.9.5" in failed[5]
    without = replace(found, model=None, many=None)
    assert {cells[-1] for cells in without.row_cells()} == {"-"}
    assert "no cost model" in without.model_text()


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


def test_the_simulation_reads_and_adds_every_upload() -> None:
    found = simulate_uploads(owners=2_500, dimension=7)
    assert (found.owners, found.dimension) == (2_500, 7)
    assert 0 < found.last_party_seconds < 30
    assert 0 < found.other_party_seconds < 30
    assert found.seconds == max(found.last_party_seconds, found.other_party_seconds)
    assert found.as_dict() == asdict(found) | {"seconds": found.seconds}


def test_a_simulation_that_loses_an_upload_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = OwnerSet.of
    monkeypatch.setattr(OwnerSet, "of", lambda positions: whole(list(positions)[1:]))
    with pytest.raises(ValueError, match="do not add up"):
        simulate_uploads(owners=10, dimension=3)
