"""Answers for SMS codecs of PyPI: a question in JSON on each line of stdin, its answer on the same line of stdout."""

import json
import sys
from datetime import datetime, timedelta, timezone
from io import StringIO

from gsmcodecs import Codec
from messaging.sms import SmsDeliver, SmsSubmit
from messaging.sms.gsm0338 import is_valid_gsm
from messaging.utils import unpack_msg
from smspdudecoder import fields
from smspdudecoder.codecs import GSM, UCS2
from smspdudecoder.elements import Date, Number


def decoder_pack(text):
    return GSM.encode(text)


def decoder_unpack(octets):
    return GSM.decode(octets)


def decoder_ucs2(text):
    return UCS2.encode(text)


def decoder_number(digits):
    return Number.encode(digits)


def decoder_time(second, quarters):
    zone = timezone(timedelta(minutes=15 * quarters))
    return Date.encode(datetime.fromtimestamp(second, zone))


def decoder_deliver(pdu):
    read = fields.SMSDeliver.decode(StringIO(pdu))
    return {
        "from": address(read["sender"]),
        "second": int(read["scts"].timestamp()),
        "zone": str(read["scts"].tzinfo),
        **user_data(read["user_data"]),
    }


def decoder_submit(pdu):
    read = fields.SMSSubmit.decode(StringIO(pdu))
    header = read["header"]
    return {
        "to": address(read["recipient"]),
        "smsc": address(read["smsc"]) if read["smsc"]["length"] else None,
        "report": header["srr"],
        "once": header["rd"],
        "validity": read.get("vp"),
        "pid": read["pid"],
        **user_data(read["user_data"]),
    }


def address(read):
    return ("+" if read["toa"]["ton"] == "international" else "") + read["number"]


def user_data(read):
    return {"text": read["data"], "part": part(read["header"])}


def part(header):
    for element in header["elements"] if header else []:
        if element["iei"] in (0, 8):
            data = element["data"]
            return [data["reference"], data["parts_count"], data["part_number"]]
    return None


def messaging_deliver(pdu):
    read = SmsDeliver(pdu)
    concat = read.udh and read.udh.concat
    return {
        "from": read.number,
        "second": int(read.date.replace(tzinfo=timezone.utc).timestamp()),
        # Of a surrogate pair it makes two characters.
        "text": read.text.encode("utf-16-be", "surrogatepass").decode("utf-16-be"),
        "part": [concat.ref, concat.cnt, concat.seq] if concat else None,
    }


def messaging_submit(to, text, reference=0, smsc=None, seconds=None, report=False, klass=None):
    sms = SmsSubmit(to, text)
    sms.ref = 0
    sms.rand_id = reference
    sms.csca = smsc
    sms.request_status = report
    if seconds is not None:
        sms.validity = timedelta(seconds=seconds)
    if klass is not None:
        sms.klass = klass
    return [[int(part.length), part.pdu] for part in sms.to_pdu()]


def messaging_alphabet():
    """Every character of one unit that it takes for one of GSM 03.38."""
    return [code for code in range(0x10000) if not 0xD800 <= code < 0xE000 and is_valid_gsm(chr(code))]


def gsmcodecs_table(locking, shift):
    """What each septet stands for, alone and after an escape; null where it stands for nothing."""
    codec = Codec(locking, shift)

    def character(octets):
        try:
            return codec.decode(octets)[0]
        except UnicodeDecodeError:
            return None

    alone = [character(bytes([code])) for code in range(128)]
    return {"alone": alone, "escaped": [character(bytes([0x1B, code])) for code in range(128)]}


def gsmcodecs_encode(locking, shift, text):
    return Codec(locking, shift).encode(text)[0].hex().upper()


def gsmcodecs_decode(locking, shift, septets):
    return Codec(locking, shift).decode(bytes.fromhex(septets))[0]


def national_text(octets):
    """The text of TP-UDL and TP-UD: their header by smspdudecoder, septets by python-messaging, tables by gsmcodecs."""
    header = fields.UserDataHeader.decode(StringIO(octets[2:]))
    languages = {element["iei"]: int(element["data"], 16) for element in header["elements"] if element["iei"] >= 0x24}
    before = -(-(header["length"] + 1) * 8 // 7)
    septets = unpack_msg(octets[2:])[before : int(octets[:2], 16)]
    codec = Codec(languages.get(0x25, 0), languages.get(0x24, 0))
    return {"text": codec.decode(septets)[0], "part": part(header)}


for line in sys.stdin:
    question = json.loads(line)
    try:
        answer = {"is": globals()[question.pop("do")](**question)}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer))
