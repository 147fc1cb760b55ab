"""Preprocessing functions that use one thing or another of tf.Transform, on the columns of `workbench.SCHEMA`."""

import apache_beam as beam
import tensorflow as tf
import tensorflow_transform as tft


def _rows(inputs, value):
    """A constant of the analysis, repeated for each row: `[rows, n]`."""
    flat = tf.reshape(tf.cast(value, tf.float32), [1, -1])
    return tf.tile(flat, [tf.shape(inputs["number"])[0], 1])


def _dense(value, default):
    column = tf.SparseTensor(value.indices, value.values, [value.dense_shape[0], 1])
    return tf.sparse.to_dense(column, default_value=default)


def numbers(inputs):
    """Moments, extrema and scaling of dense, elementwise and sparse features."""
    number, vector, some = inputs["number"], inputs["vector"], inputs["some"]
    return {
        "extrema": _rows(inputs, tf.stack([tft.min(number), tft.max(number), tft.sum(number), tft.mean(number)])),
        "var_elementwise": _rows(inputs, tft.var(vector, reduce_instance_dims=False)),
        "sum_elementwise": _rows(inputs, tft.sum(vector, reduce_instance_dims=False)),
        "min_elementwise": _rows(inputs, tft.min(vector, reduce_instance_dims=False)),
        "size": _rows(inputs, tft.size(some)),
        "mean_sparse": _rows(inputs, tft.mean(some)),
        "max_whole": _rows(inputs, tft.max(inputs["whole"])),
        "sum_whole": _rows(inputs, tft.sum(inputs["whole"])),
        "z": tft.scale_to_z_score(number),
        "z_elementwise": tft.scale_to_z_score(vector, elementwise=True),
        "z_sparse": tft.scale_to_z_score(some),
        "unit": tft.scale_to_0_1(number),
        "unit_sparse": tft.scale_by_min_max(some, -1.0, 1.0),
        "gaussian": tft.scale_to_gaussian(number),
        "covariance": _rows(inputs, tft.covariance(vector, tf.float32)),
        "pca": tf.abs(tf.matmul(vector, tft.pca(vector, 2, tf.float32))),
    }


def buckets(inputs):
    """Quantiles, buckets and histograms, plain, weighted, elementwise and per key."""
    number, key = inputs["number"], tf.squeeze(inputs["key"], 1)
    counts, edges = tft.histogram(number, boundaries=5)
    return {
        "quantiles": _rows(inputs, tft.quantiles(number, 4, epsilon=0.01)),
        "weighted": _rows(inputs, tft.quantiles(number, 4, epsilon=0.01, weights=inputs["weight"])),
        "elementwise": _rows(inputs, tft.quantiles(inputs["vector"], 3, epsilon=0.01, reduce_instance_dims=False)),
        "bucket": tft.bucketize(number, 7),
        "bucket_vector": tft.bucketize(inputs["vector"], 3, elementwise=True),
        "bucket_sparse": tft.bucketize(inputs["some"], 5),
        "bucket_per_key": tft.bucketize_per_key(tf.squeeze(number, 1), key, 3),
        "histogram_edges": _rows(inputs, edges),
        "histogram_rows": _rows(inputs, tf.reduce_sum(counts)),
    }


def per_key(inputs):
    """Analyzers by the value of a key, kept in the graph or in a file."""
    number, key = tf.squeeze(inputs["number"], 1), tf.squeeze(inputs["key"], 1)
    keys, counts = tft.count_per_key(key)
    return {
        "z_per_key": tft.scale_to_z_score_per_key(number, key),
        "unit_per_key": tft.scale_to_0_1_per_key(number, key),
        "unit_per_key_in_file": tft.scale_to_0_1_per_key(number, key, key_vocabulary_filename="scaled"),
        "keys": _rows(inputs, tf.strings.to_hash_bucket_fast(keys, 1000)),
        "counts": _rows(inputs, counts),
    }


def vocabularies(inputs):
    """Vocabularies of all kinds."""
    words, word, whole = inputs["words"], inputs["key"], inputs["whole"]
    label = tf.cast(tf.squeeze(inputs["label"], 1), tf.int64)
    weight = tf.squeeze(inputs["weight"], 1)
    one = tf.squeeze(word, 1)
    tft.vocabulary(words, vocab_filename="plain")
    tft.vocabulary(words, vocab_filename="top", top_k=3)
    tft.vocabulary(words, vocab_filename="often", frequency_threshold=200, store_frequency=True)
    tft.vocabulary(words, vocab_filename="none", frequency_threshold=10**9)
    tft.vocabulary(words, vocab_filename="none_of_top", top_k=3, frequency_threshold=10**9)
    tft.vocabulary(words, vocab_filename="shuffled", fingerprint_shuffle=True)
    tft.vocabulary(one, vocab_filename="weighted", weights=weight, store_frequency=True)
    tft.vocabulary(one, vocab_filename="telling", labels=label, store_frequency=True)
    tft.vocabulary(one, vocab_filename="adjusted", labels=label, use_adjusted_mutual_info=True, top_k=4)
    tft.vocabulary(one, vocab_filename="weighted_telling", labels=label, weights=weight, min_diff_from_avg=0.1)
    tft.vocabulary(whole, vocab_filename="whole", top_k=20)
    tft.vocabulary(whole, vocab_filename="whole_often", frequency_threshold=15, store_frequency=True)
    tft.vocabulary(words, vocab_filename="reserved", reserved_tokens=["[PAD]", "b"], top_k=4)
    tft.vocabulary(
        words,
        vocab_filename="covering",
        top_k=2,
        coverage_top_k=1,
        key_fn=_first_letter,
        coverage_frequency_threshold=2,
    )
    return {
        "word": tft.compute_and_apply_vocabulary(
            word, vocab_filename="word", num_oov_buckets=2, frequency_threshold=100
        ),
        "word_default": tft.compute_and_apply_vocabulary(word, top_k=3, default_value=-1),
        "records": tft.compute_and_apply_vocabulary(word, vocab_filename="records", file_format="tfrecord_gzip"),
        "words_indexed": tft.compute_and_apply_vocabulary(words, vocab_filename="words"),
        "rare": tft.compute_and_apply_vocabulary(inputs["rare"], vocab_filename="rare", num_oov_buckets=1),
    }


def _first_letter(word):
    return word[:1]


def tf_idf(inputs):
    """Words, counted in each row and over all rows."""
    indexed = tft.compute_and_apply_vocabulary(inputs["words"], vocab_filename="terms")
    terms, weights = tft.tfidf(indexed, vocab_size=30)
    return {"terms": terms, "weights": weights}


def phases(inputs):
    """Analyzers on what other analyzers have made: four passes."""
    index = tft.compute_and_apply_vocabulary(inputs["key"], vocab_filename="first", num_oov_buckets=1)
    scaled = tft.scale_to_z_score(tf.cast(index, tf.float32) * tft.scale_to_0_1(inputs["number"]))
    bucket = tft.bucketize(scaled, 4)
    return {
        "scaled": scaled,
        "bucket": bucket,
        "second": tft.compute_and_apply_vocabulary(tf.strings.as_string(bucket), vocab_filename="second"),
        "plain": inputs["number"] - tft.min(inputs["number"]),
    }


def nothing_to_learn(inputs):
    """No analyzer at all."""
    return {"twice": inputs["number"] * 2, "filled": _dense(inputs["rare"], b"?")}


def stateful(inputs):
    """An assertion on a column that no analyzer needs, and a table that the user makes."""
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer([b"a", b"b"], tf.constant([10, 20], tf.int64)), -1
    )
    with tf.control_dependencies([tf.debugging.assert_positive(inputs["weight"])]):
        number = tf.identity(inputs["number"])
    return {"looked_up": table.lookup(inputs["key"]), "number": tft.scale_to_z_score(number)}


def approximate(inputs):
    """A vocabulary by a sketch that is large enough to be exact."""
    tft.experimental.approximate_vocabulary(
        inputs["words"], top_k=40, vocab_filename="approximate", store_frequency=True
    )
    return {"number": tft.scale_to_z_score(inputs["number"])}


@beam.ptransform_fn
def _largest(values):
    return values | beam.Map(lambda arrays: arrays[0].max()) | beam.CombineGlobally(max)


def on_beam(inputs):
    """An analyzer of the user's own Beam transform, which only Beam can run."""
    (largest,) = tft.experimental.ptransform_analyzer([inputs["number"]], _largest(), [tf.float32], [[]])
    return {"number": inputs["number"] / largest}


def raises(inputs):
    """A mistake of the user's."""
    return {"number": inputs["numbr"]}


def returns_nothing(inputs):
    """Another."""
    return {}


def returns_numbers(inputs):
    """Another."""
    return {"number": 3}


def asserts(inputs):
    """An assertion that some row does not meet."""
    with tf.control_dependencies([tf.debugging.assert_less(inputs["number"], -1e9, "too large")]):
        return {"number": tft.scale_to_z_score(tf.identity(inputs["number"]))}


def constant(inputs):
    """A value of the analysis in a row's place."""
    return {"number": inputs["number"], "mean": tft.mean(inputs["number"])}


def constant_beside(inputs):
    """A column that is only transformed, beside one that is analyzed."""
    return {"number": tft.scale_to_0_1(inputs["number"]), "whole": inputs["whole"] + 1}


def ragged(inputs):
    """A ragged tensor, and what is scaled of it."""
    return {"ragged": tf.RaggedTensor.from_sparse(tft.scale_to_z_score(inputs["some"]))}


def various(inputs):
    """What else there is, in one graph."""
    return {**per_key(inputs), **tf_idf(inputs), **ragged(inputs), "approximate": approximate(inputs)["number"]}


def uses_absent(inputs):
    """A column that the schema promises and the examples lack."""
    return {"absent": tft.scale_to_z_score(tf.cast(inputs["absent"], tf.float32))}
