"""Examples as ExampleGen writes them, from batches of rows."""

from components.example_gen.shards import publish, workplace, write_shard

RECORDS_FILE = "data_tfrecord-00000-of-00001"


def write_splits(batches, weights, folder):
    """Writes the rows as one shard; a `Written`."""
    with workplace(folder, weights) as place:
        return publish([write_shard(batches, weights, place / "00000")], weights, folder)
