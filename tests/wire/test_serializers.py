"""V1 and V2 to the byte."""

import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.exceptions import FieldTooLong, InvalidMessage, PayloadError, UnsupportedPayload
from roost.strict_json import JsonEncoder
from roost.wire.frame import Frame
from roost.wire.messages import Broadcast, Message, Reply
from roost.wire.payload import JsonPayload
from roost.wire.serializers import Serializer, V1Serializer, V2Serializer, negotiate
from tests.laws import LAW

ENCODER = JsonEncoder()
V1, V2 = V1Serializer(ENCODER), V2Serializer(ENCODER)
BOTH: list[Serializer] = [V1, V2]

LONG = "é" * 128  # 256 bytes


def text(data: str) -> Frame:
    return Frame(data.encode(), is_text=True)


def binary(data: bytes) -> Frame:
    return Frame(data, is_text=False)


# Version 1.


@pytest.mark.conforms("V1-1")
@pytest.mark.parametrize("payload", ['{"m":1}', '"m"', "[1]", "null", "7"])
def test_v1_writes_a_message_as_an_object_of_four_keys(payload):
    """A message has topic, event, payload and ref, never a join_ref; any JSON is a payload."""
    message = Message("1", None, "t", "e", json.loads(payload))

    assert V1.encode(message) == text(f'{{"topic":"t","event":"e","payload":{payload},"ref":null}}')


@pytest.mark.conforms("V1-2")
def test_v1_writes_a_reply_as_an_event():
    """A reply is the event phx_reply with status and response as its payload."""
    reply = Reply("1", "null", "t", "ok", {"m": 1})

    assert V1.encode(reply) == text(
        '{"topic":"t","event":"phx_reply",'
        '"payload":{"status":"ok","response":{"m":1}},"ref":"null"}'
    )


@pytest.mark.conforms("V1-3")
def test_v1_reads_a_message():
    """An object is a message; the join_ref may be left out and other keys are ignored."""
    frame = '{"topic":"t","event":"e","payload":"m","ref":"1"}'

    assert V1.decode(frame) == Message(None, "1", "t", "e", "m")
    assert V1.decode(frame[:-1] + ',"join_ref":"3","x":[]}') == Message("3", "1", "t", "e", "m")


@pytest.mark.conforms("V1-4")
@pytest.mark.parametrize("frame", ["[]", '["1","1","t","e",{}]', "1", "null", '"t"'])
def test_v1_reads_nothing_but_objects(frame):
    """An array, or any other JSON, is refused: expected a map."""
    with pytest.raises(InvalidMessage, match=r"expected a JSON object \(a map\), got "):
        V1.decode(frame)


@pytest.mark.conforms("V1-5")
def test_v1_writes_a_broadcast_without_a_ref():
    """A broadcast has a null ref."""
    broadcast = Broadcast("t", "e", JsonPayload(b'{"m":1}'))

    assert V1.fastlane(broadcast) == text('{"topic":"t","event":"e","payload":{"m":1},"ref":null}')


@pytest.mark.parametrize("payload", [b"x", bytearray(b"x"), memoryview(b"x")])
def test_v1_has_no_binary_form(payload):
    """Bytes can't be written in version 1, nor read as a payload."""
    for message in (Message(None, None, "t", "e", payload), Reply(None, "1", "t", "ok", payload)):
        with pytest.raises(UnsupportedPayload, match="version 1 can't carry bytes"):
            V1.encode(message)
    with pytest.raises(UnsupportedPayload, match="version 1 can't carry bytes"):
        V1.fastlane(Broadcast("t", "e", payload))
    with pytest.raises(InvalidMessage, match="expected JSON"):
        V1.decode(b"\x00\x00\x00\x01\x01te")


def test_v1_reads_json_in_a_binary_frame():
    """Phoenix does not ask which kind of frame the JSON came in."""
    data = '{"topic":"t","event":"e","payload":{"body":"é"},"ref":"1"}'

    assert (
        V1.decode(data.encode()) == V1.decode(data) == Message(None, "1", "t", "e", {"body": "é"})
    )
    with pytest.raises(InvalidMessage):
        V1.decode(b'{"topic":"\xff","event":"e","payload":{},"ref":"1"}')


@pytest.mark.parametrize("name", ["topic", "event", "payload", "ref"])
def test_v1_names_the_key_that_is_missing(name):
    """A required key that is missing is named."""
    fields = {"topic": "t", "event": "e", "payload": {}, "ref": "1"}
    del fields[name]

    with pytest.raises(InvalidMessage, match=f"the key '{name}'"):
        V1.decode(json.dumps(fields))


# Version 2, text.


@pytest.mark.conforms("V2-1")
def test_v2_writes_a_message_as_an_array():
    """A message is an array of join_ref, ref, topic, event and payload."""
    assert V2.encode(Message(None, None, "t", "e", {"m": 1})) == text('[null,null,"t","e",{"m":1}]')
    assert V2.encode(Message("1", None, "t", "e", {})) == text('["1",null,"t","e",{}]')


@pytest.mark.conforms("V2-2")
@pytest.mark.parametrize(
    "payload", ["m", 1, None, True, [1], [{}], JsonPayload(b"[1]"), msgspec.Raw(b"[1]")]
)
def test_v2_writes_no_message_whose_payload_is_not_an_object(payload):
    """The payload of a message is an object or bytes; anything else is refused by its type."""
    with pytest.raises(PayloadError, match=f"JSON object or bytes, got {type(payload).__name__}"):
        V2.encode(Message(None, None, "t", "e", payload))


@pytest.mark.conforms("V2-3")
def test_v2_writes_a_reply():
    """A reply is the event phx_reply with status and response as its payload."""
    assert V2.encode(Reply("1", "2", "t", "ok", {"m": 1})) == text(
        '["1","2","t","phx_reply",{"status":"ok","response":{"m":1}}]'
    )


@pytest.mark.conforms("V2-4")
def test_v2_reads_a_message():
    """Five elements are a message; what comes behind them is ignored."""
    assert V2.decode('[null,null,"t","e",{"m":1}]') == Message(None, None, "t", "e", {"m": 1})
    assert V2.decode('["1","2","t","e",[],7,{}]') == Message("1", "2", "t", "e", [])


@pytest.mark.conforms("V2-5")
def test_v2_writes_a_broadcast():
    """A broadcast names no join and no ref."""
    assert V2.fastlane(Broadcast("t", "e", {"m": 1})) == text('[null,null,"t","e",{"m":1}]')


@pytest.mark.conforms("V2-6")
@pytest.mark.parametrize("payload", ["m", 1, None, [1], JsonPayload(b"1")])
def test_v2_writes_no_broadcast_whose_payload_is_not_an_object(payload):
    """The payload of a broadcast is an object or bytes; anything else is refused by its type."""
    with pytest.raises(PayloadError, match=f"JSON object or bytes, got {type(payload).__name__}"):
        V2.fastlane(Broadcast("t", "e", payload))


@pytest.mark.parametrize("response", ['{"m":1}', '"m"', "[1]", "null", "false", "7"])
def test_a_response_is_any_json(response):
    """The response of a reply is not checked for being an object."""
    reply = Reply("1", "2", "t", "error", json.loads(response))

    assert V2.encode(reply) == text(
        f'["1","2","t","phx_reply",{{"status":"error","response":{response}}}]'
    )
    assert V1.encode(reply) == text(
        '{"topic":"t","event":"phx_reply",'
        f'"payload":{{"status":"error","response":{response}}},"ref":"2"}}'
    )


@pytest.mark.parametrize("refs", ["[1,2.5]", "[true,{}]", '[[null],""]'])
def test_refs_are_echoed_as_they_came(refs):
    """Refs are opaque: any JSON value comes back unchanged."""
    join_ref, ref = json.loads(refs)
    message = V2.decode(f'{refs[:-1]},"t","e",{{}}]')

    assert (message.join_ref, message.ref) == (join_ref, ref)
    assert V2.encode(Reply(message.join_ref, message.ref, "t", "ok", {})) == text(
        f'{refs[:-1]},"t","phx_reply",{{"status":"ok","response":{{}}}}]'
    )


@pytest.mark.parametrize("serializer", BOTH, ids=["v1", "v2"])
def test_encoded_payloads_are_written_as_they_are(serializer):
    """The bytes of a JsonPayload are in the frame, spaces and all."""
    payload = JsonPayload(b'{"m":  1}')

    assert b'{"m":  1}' in serializer.encode(Message(None, None, "t", "e", payload)).data
    assert b'{"m":  1}' in serializer.encode(Reply(None, "1", "t", "ok", payload)).data
    assert b'{"m":  1}' in serializer.fastlane(Broadcast("t", "e", payload)).data


@pytest.mark.parametrize("serializer", BOTH, ids=["v1", "v2"])
def test_payloads_are_strict_json(serializer):
    """What is not JSON is refused where it is given."""
    for payload in ({"load": float("nan")}, {"raw": b"x"}, {"text": "\ud800"}, {"o": object()}):
        for message in (
            Message(None, None, "t", "e", payload),
            Reply(None, "1", "t", "ok", payload),
        ):
            with pytest.raises(PayloadError):
                serializer.encode(message)
        with pytest.raises(PayloadError):
            serializer.fastlane(Broadcast("t", "e", payload))


def test_what_encodes_as_an_object_is_a_payload():
    """Structs and raw JSON objects are as good as dicts."""

    class Hello(msgspec.Struct):
        m: int

    for payload in (Hello(1), msgspec.Raw(b'{"m":1}')):
        assert (
            V2.encode(Message(None, None, "t", "e", payload)).text == '[null,null,"t","e",{"m":1}]'
        )


# Version 2, binary.


@pytest.mark.conforms("V2-7")
def test_v2_writes_a_push_of_bytes():
    """A push has kind 0, three lengths, join_ref, topic, event and data: there is no ref."""
    message = Message("12", None, "topic", "event", b"efg")

    assert V2.encode(message) == binary(b"\x00\x02\x05\x0512topiceventefg")
    assert V2.encode(Message(None, None, "t", "e", b"")) == binary(b"\x00\x00\x01\x01te")


@pytest.mark.conforms("V2-8")
@pytest.mark.parametrize("name", ["join_ref", "topic", "event"])
def test_v2_names_the_field_of_a_push_that_is_too_long(name):
    """A field over 255 bytes of UTF-8 is named with its size; 255 bytes fit."""
    fields = {"join_ref": "1", "topic": "t", "event": "e"}
    push = Message(**{**fields, name: LONG}, ref=None, payload=b"x")
    longest = Message(**{**fields, name: "x" * 255}, ref=None, payload=b"")

    with pytest.raises(FieldTooLong, match=f"{name} has 256 bytes") as error:
        V2.encode(push)
    assert (error.value.field, error.value.size) == (name, 256)
    assert b"x" * 255 in V2.encode(longest).data


@pytest.mark.conforms("V2-9")
def test_v2_writes_a_reply_of_bytes():
    """A reply has kind 1, four lengths, join_ref, ref, topic, status and data."""
    reply = Reply("12", "123", "topic", "ok", b"efg")

    assert V2.encode(reply) == binary(b"\x01\x02\x03\x05\x0212123topicokefg")
    assert V2.encode(Reply(None, None, "t", "error", b"")) == binary(b"\x01\x00\x00\x01\x05terror")


@pytest.mark.conforms("V2-10")
@pytest.mark.parametrize("name", ["join_ref", "ref", "topic", "status"])
def test_v2_names_the_field_of_a_reply_that_is_too_long(name):
    """A field over 255 bytes is named with its size."""
    fields = {"join_ref": "1", "ref": "2", "topic": "t", "status": "ok", name: LONG}

    with pytest.raises(FieldTooLong, match=f"{name} has 256 bytes"):
        V2.encode(Reply(**fields, response=b"x"))


@pytest.mark.conforms("V2-11")
def test_v2_writes_a_broadcast_of_bytes():
    """A broadcast has kind 2, two lengths, topic, event and data."""
    broadcast = Broadcast("topic", "event", b"efg")

    assert V2.fastlane(broadcast) == binary(b"\x02\x05\x05topiceventefg")


@pytest.mark.conforms("V2-12")
@pytest.mark.parametrize("name", ["topic", "event"])
def test_v2_names_the_field_of_a_broadcast_that_is_too_long(name):
    """A field over 255 bytes is named with its size."""
    fields = {"topic": "t", "event": "e", name: LONG}

    with pytest.raises(FieldTooLong, match=f"{name} has 256 bytes"):
        V2.fastlane(Broadcast(**fields, payload=b"x"))


@pytest.mark.conforms("V2-13")
def test_v2_reads_a_push_of_bytes():
    """A client's push has five bytes of header and a ref; its payload is bytes."""
    frame = b"\x00\x02\x03\x05\x0512123topiceventefg"

    assert V2.decode(frame) == Message("12", "123", "topic", "event", b"efg")


def test_an_absent_ref_in_a_binary_push_is_empty():
    """A length of zero is the empty string, as in Phoenix, and not null."""
    assert V2.decode(b"\x00\x00\x00\x01\x01te") == Message("", "", "t", "e", b"")


@pytest.mark.parametrize("payload", [bytearray(b"efg"), memoryview(b"efg")])
def test_other_bytes_are_written_like_bytes(payload):
    """Any buffer of bytes goes into a binary frame."""
    assert V2.encode(Message(None, None, "t", "e", payload)) == binary(b"\x00\x00\x01\x01teefg")
    assert V2.encode(Reply(None, None, "t", "ok", payload)) == binary(b"\x01\x00\x00\x01\x02tokefg")
    assert V2.fastlane(Broadcast("t", "e", payload)) == binary(b"\x02\x01\x01teefg")


def test_a_binary_frame_carries_refs_as_strings():
    """A ref that came as a number in a text frame can't be in a binary one; the field is named."""
    with pytest.raises(UnsupportedPayload, match="carries ref as a string, got int"):
        V2.encode(Reply("1", 7, "t", "ok", b"x"))
    with pytest.raises(UnsupportedPayload, match="join_ref is not Unicode text"):
        V2.encode(Message("\ud800", None, "t", "e", b"x"))


# What can't be read.


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        ("", "expected JSON"),
        ("{", "expected JSON"),
        ("[NaN]", "expected JSON"),
        ('["1","1","t","e",{}', "expected JSON"),
        ("[" * 100_000, "expected JSON"),
        ('["\\ud800"]', "expected JSON"),
        ("{}", "an array of five"),
        ('"text"', "an array of five"),
        ("null", "an array of five"),
        ("[]", "an array of five"),
        ('["1","1","t","e"]', "an array of five"),
        ('["1","1",1,"e",{}]', "topic to be a string, got int"),
        ('["1","1",null,"e",{}]', "topic to be a string, got NoneType"),
        ('["1","1","t",{},{}]', "event to be a string, got dict"),
    ],
)
def test_v2_says_what_it_expected_of_a_text_frame(frame, complaint):
    """A text frame that is no message is refused with what was expected and what came."""
    complaint = complaint.replace("an array of five", "a JSON array of five elements")
    with pytest.raises(InvalidMessage, match=complaint) as error:
        V2.decode(frame)
    assert error.value.close_code == 1011


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x00",
        b"\x00\x00\x00\x00",
        b"\x01\x00\x00\x01\x01te",
        b"\x02\x00\x00\x01\x01te",
        b"\xff\x00\x00\x01\x01te",
        b"\x00\x00\x00\x02\x01te",
        b"\x00\xff\xff\xff\xffte",
        b"\x00\x01\x00\x01\x01\xffte",
        b"\x00\x00\x00\x01\x02t\xc3",
    ],
)
def test_v2_reads_no_other_binary_frames(frame):
    """Another kind, a header cut short, fields cut short or bad UTF-8 are refused."""
    with pytest.raises(InvalidMessage):
        V2.decode(frame)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda children: (
        st.lists(children, max_size=6)
        | st.dictionaries(st.sampled_from(["topic", "event", "payload", "ref", "x"]), children)
    ),
    max_leaves=12,
)


@LAW
@given(st.text() | st.binary() | json_values.map(json.dumps) | st.binary().map(b"\x00".__add__))
def test_whatever_arrives_is_a_message_or_invalid(data):
    """No frame raises anything but InvalidMessage."""
    for serializer in BOTH:
        try:
            message = serializer.decode(data)
        except InvalidMessage as error:
            message = None
            sentence = str(error)
            assert sentence.startswith("expected ")
        if message is not None:
            assert type(message.topic) is type(message.event) is str


fields = st.text(max_size=60).filter(lambda field: len(field.encode()) <= 255)


@LAW
@given(fields, fields, fields, fields, st.binary())
def test_any_binary_push_is_read(join_ref, ref, topic, event, data):
    """A frame written by the table of the specification is read back."""
    parts = [field.encode() for field in (join_ref, ref, topic, event)]
    frame = b"".join([b"\x00", bytes(len(part) for part in parts), *parts, data])

    assert V2.decode(frame) == Message(join_ref, ref, topic, event, data)


refs = st.none() | st.text(max_size=5) | st.integers()
objects = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3)


@LAW
@given(refs, refs, st.text(), st.text(), objects)
def test_any_text_message_is_written_and_read(join_ref, ref, topic, event, payload):
    """Reading undoes writing, in both versions but for the join_ref of version 1."""
    message = Message(join_ref, ref, topic, event, payload)

    assert V2.decode(V2.encode(message).text) == message
    assert V1.decode(V1.encode(message).text) == Message(None, ref, topic, event, payload)


# Which version.


@pytest.mark.parametrize(
    ("vsn", "expected"),
    [
        ("1.0.0", V1Serializer),
        ("1.0.99", V1Serializer),
        ("2.0.0", V2Serializer),
        ("2.0.3", V2Serializer),
        ("2.0.0+build.7-x", V2Serializer),
    ],
)
def test_a_version_is_served_by_the_serializer_of_its_series(vsn, expected):
    """Any patch of a known major and minor version is served."""
    assert negotiate(vsn, [V1Serializer, V2Serializer]) is expected


REFUSED: list[Any] = [
    *["1.1.0", "2.1.0", "3.0.0", "123.1.1", "20.0.0", "0.0.0"],
    *["2.0.0-rc.1", "2.0.0-rc.1+build", "2.0.0+", "2.0.0+a..b"],
    *["", "2", "2.0", "2.0.0.0", "v2.0.0", " 2.0.0", "2.0.0\n", "2.0.x", "-2.0.0"],
    *["02.0.0", "2.00.0", "2.0.00", "\uff12.0.0", "9" * 5_000 + ".0.0"],
    *[None, 2, 2.0, ["2.0.0"], {"2.0.0": "2.0.0"}, b"2.0.0"],
]


@pytest.mark.parametrize("index", range(len(REFUSED)))
def test_any_other_version_is_refused(index):
    """Other series, pre-releases, and what is no full version are refused."""
    assert negotiate(REFUSED[index], [V1Serializer, V2Serializer]) is None


def test_the_first_serializer_that_fits_is_taken():
    """The order of the list decides, and a list without a version refuses it."""

    class OwnSerializer(V2Serializer):
        pass

    for order in itertools.permutations([OwnSerializer, V2Serializer]):
        assert negotiate("2.0.0", order) is order[0]
    assert negotiate("1.0.0", [V2Serializer]) is None
