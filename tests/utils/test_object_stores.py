"""Places in an object store: a server of S3 in this process, with the faults that servers and networks have."""

import pytest
from fake_s3 import fake_s3

from sepsearch.search.remote_journal import RemoteJournal
from sepsearch.utils import object_stores
from sepsearch.utils.errors import UserError
from sepsearch.utils.object_stores import Address, open_store, parse_address
from sepsearch.utils.storage import open_storage


@pytest.fixture
def server(monkeypatch):
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with fake_s3() as server:
        yield server


def storage(server, bucket="bucket"):
    host = server.address.removeprefix("http://")
    return open_storage(f"s3://{bucket}/runs?endpoint_override={host}&scheme=http&region=eu-west-1")


def once(fault, method="PUT"):
    """The next request of a method fails so."""
    left = [fault]

    def act(found, key, done):
        lost = fault == "lose after"
        return (left.pop() and ("lose" if lost else fault)) if left and found == method and done == lost else ""

    return act


def test_files_are_written_read_listed_dated_and_removed(server):
    place = storage(server) / "run"
    for name in ("b", "a/z", "c"):
        place.write(name, name.encode())
    assert place.read("a/z") == b"a/z"
    assert place.read("nothing") is None
    assert place.modified("b") == pytest.approx(1.79e9, rel=0.5)
    assert place.modified("nothing") is None
    place.remove("c", "nothing")
    assert place.names() == ["a/z", "b"]
    assert place.names(after="a/z") == ["b"]
    assert set(server.objects) == {"bucket/runs/run/b", "bucket/runs/run/a/z"}


def test_the_same_address_gives_one_client(server):
    assert storage(server)._store is (storage(server) / "run")._store


def test_a_folder_that_a_console_has_made_is_no_file(server):
    server.objects |= {"bucket/runs/run/": b"", "bucket/runs/run/a": b"1"}
    assert (storage(server) / "run").names() == ["a"]


@pytest.mark.parametrize("fault", ["lose", "lose after", "500", "503"])
def test_a_file_is_written_and_created_though_an_answer_is_lost(server, fault):
    place = storage(server)
    server.fault = once(fault)
    place.write("a", b"1")
    server.fault = once(fault)
    assert place.create("b", b"2")
    assert not place.create("b", b"3")
    assert (place.read("a"), place.read("b")) == (b"1", b"2")


def test_a_refusal_is_one_line_at_once(server):
    server.fault = lambda method, key, done: "403"
    place = storage(server)
    for act in (lambda: place.read("a"), lambda: place.write("a", b""), lambda: place.create("a", b""), place.names):
        with pytest.raises(UserError, match=r"s3://bucket/runs/a?: cannot be (read|written|listed): Refused: refused"):
            act()
    assert len(server.requests) <= 6


def test_a_bucket_that_is_not_there_is_told_and_not_taken_for_a_missing_file(server):
    with pytest.raises(
        UserError, match="s3://nowhere/runs/a: cannot be read: NoSuchBucket: The specified bucket does not"
    ):
        storage(server, "nowhere").read("a")


@pytest.mark.parametrize(
    "key",
    ["../../evil", "a/../../../evil", "/etc/evil", "a//evil", "./evil", "back\\..\\slash", "C:/evil", "esc\x1b[31m"],
)
def test_a_planted_key_is_named_and_nothing_is_written(server, tmp_path, key):
    server.objects |= {f"bucket/runs/run/{key}": b"evil", "bucket/runs/run/a": b"1"}
    with pytest.raises(UserError) as error:
        (storage(server) / "run").fetch(tmp_path / "runs" / "run")
    assert "s3://bucket/runs/run: " in str(error.value)
    assert key[-4:] in str(error.value) or not key.isprintable()
    assert "remove it, and see who can write it" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_line_of_a_journal_is_one_request(server):
    remote = RemoteJournal(storage(server) / "run" / "journal")
    remote.append(b"0\n")
    server.requests.clear()
    remote.append(b"1\n")
    assert server.requests == [("PUT", "bucket/runs/run/journal/000000001.jsonl")]


def test_following_a_journal_asks_for_what_is_new_alone(server):
    place = storage(server) / "run" / "journal"
    writer, reader = RemoteJournal(place), RemoteJournal(place)
    for number in range(5):
        writer.append(b"%d\n" % number)
    assert len(reader.read_all()) == 5
    writer.append(b"5\n")
    server.requests.clear()
    assert reader.lines_from(5) == [b"5\n"]
    assert server.requests == [("GET", "bucket"), ("GET", "bucket/runs/run/journal/000000005.jsonl")]


def test_a_store_that_does_not_honour_conditions_is_refused_at_the_start(server):
    server.conditional = False
    with pytest.raises(
        UserError, match=r"s3://bucket/runs/run/journal: this store replaces an object .*update the store"
    ):
        RemoteJournal(storage(server) / "run" / "journal").claim()
    assert server.objects == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://b/a/c?region=eu", Address("s3", "b", "a/c", "", {"region": "eu"})),
        ("s3://b", Address("s3", "b", "", "", {})),
        ("gcs://b/with%20space/", Address("gs", "b", "with space", "", {})),
        ("az://box/runs", Address("az", "box", "runs", "", {})),
        ("abfs://account@box/runs", Address("az", "box", "runs", "account", {})),
        ("abfss://box@account.dfs.core.windows.net/runs", Address("az", "box", "runs", "account", {})),
        ("abfss://account.blob.core.windows.net/box/runs/x", Address("az", "box", "runs/x", "account", {})),
    ],
)
def test_addresses_as_they_are_written_elsewhere_are_understood(text, expected):
    assert parse_address(text, "--storage") == expected


def test_parameters_of_an_address_reach_the_clients(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    store = open_store(parse_address("s3://b/a?endpoint_override=host:9000&scheme=http&region=eu", ""), "")
    assert (store.config["region"], store.prefix) == ("eu", "a")
    assert store.config["endpoint"] == store.config["endpoint_url_s3"] == "http://host:9000"
    store = open_store(parse_address("gs://b/a?endpoint_override=host:4443", ""), "")
    assert store.config["base_url"] == "https://host:4443"
    store = open_store(parse_address("abfs://acc@box/a?tenant_id=t", ""), "")
    assert (store.config["account_name"], store.config["tenant_id"]) == ("acc", "t")


def test_a_profile_of_aws_is_read_where_boto3_is_installed(tmp_path, monkeypatch):
    pytest.importorskip("boto3")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "credentials").write_text("[lab]\naws_access_key_id = own\naws_secret_access_key = hidden\n")
    (tmp_path / "config").write_text("[profile lab]\nregion = eu-north-1\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    store = open_store(parse_address("s3://b/a?endpoint_override=host", ""), "s3://b/a")
    assert store.credential_provider()["access_key_id"] == "own"
    assert store.config["region"] == "eu-north-1"
    monkeypatch.setenv("AWS_PROFILE", "other")
    with pytest.raises(
        UserError, match=r"s3://b/a: credentials of AWS: found .*\(other\).*aws sts get-caller-identity"
    ):
        open_store(parse_address("s3://b/a?endpoint_override=host", ""), "s3://b/a")


def test_without_boto3_a_profile_is_one_line_and_a_machines_role_is_left_to_the_client(tmp_path, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setitem(__import__("sys").modules, "botocore.exceptions", None)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    assert object_stores._aws_credentials("s3://b") is None
    monkeypatch.setenv("AWS_PROFILE", "lab")
    with pytest.raises(UserError, match="profiles of AWS are read by boto3, which is not installed: pip install boto3"):
        object_stores._aws_credentials("s3://b")


def test_a_conflict_with_a_deletion_does_not_pass_for_a_file_of_another(server):
    server.fault = once("409")
    assert storage(server).create("a", b"1")
    assert server.objects == {"bucket/runs/a": b"1"}
