"""The table of how near the longest calls are to what two cores are to do."""

from experiments.analysis import frames, reading
from experiments.reporting import tables
from tests import synthetic_records as synthetic


def found(tmp_path, records):
    folder = synthetic.write(tmp_path / "in", records)
    (section,) = frames.sections(reading.read([folder]).frame)
    return [table for table in tables.build(section) if table.name.endswith("-bounds")]


def kernels(label, held=10**9, seconds=2.0, compiling=3.0):
    """Of 256 and 1,024; compiled slowest at the first, which holds least and is fastest."""
    records = [synthetic.kernel(label, n, "forward") for n in (256, 1024)]
    for record, share in zip(records, (0.5, 1.0), strict=True):
        record["metrics"] |= {"bytes_process": share * held, "seconds": share * seconds}
        record["metrics"] |= {"compile_seconds": compiling / share, "trace_seconds": share}
    return records


def test_the_longest_call_and_the_slowest_compilation_are_held_to_their_bounds(tmp_path):
    records = [*kernels("local"), *kernels("bigbird", held=5 * 2**30, seconds=61.0)]
    records += [*kernels("linear", compiling=5.5), synthetic.kernel("strided", 256, "forward")]
    records.append(synthetic.kernel("local", 4096, "forward", "oom", "no room"))
    (table,) = found(tmp_path, records)
    rows = {row[0]: row for row in table.text()}
    assert rows["local"][1:] == ["forward", "1,024", "2.00", "0.931", "6.00", "256", "1.00", "yes",
                                 "oom: no room"]  # fmt: skip
    assert rows["bigbird"][8:] == ["no: time, memory", ""]
    assert rows["linear"][8] == "no: compilation"
    assert rows["strided"][4] == ""
    assert rows["strided"][8] == "unknown"
    (ids,) = (row["records"] for row in table.frame.to_dict("records") if row["label"] == "local")
    assert set(ids.split()) == {record["id"] for record in records[:2]}


def test_records_that_do_not_tell_of_their_process_have_no_such_table(tmp_path):
    assert found(tmp_path, synthetic.scaling()) == []
