"""Says things to the backend as the platform would, with wechatpy's cryptography and signatures.

Takes a JSON object as its argument: url (of /wechat), token, aes_key (or null), appid, texts.
"""

import json
import sys
import time

import requests
import xmltodict
from wechatpy import parse_message
from wechatpy.crypto import WeChatCrypto
from wechatpy.exceptions import InvalidSignatureException
from wechatpy.utils import WeChatSigner, check_signature, random_string

FAN = "oFan0000000000000000000000001"
ACCOUNT = "gh_000000000sim"

task = json.loads(sys.argv[1])


def signed():
    """signature, timestamp and nonce of a request that is sent now."""
    timestamp, nonce = str(int(time.time())), random_string()
    signer = WeChatSigner()
    signer.add_data(task["token"], timestamp, nonce)
    check_signature(task["token"], signer.signature, timestamp, nonce)
    return {"signature": signer.signature, "timestamp": timestamp, "nonce": nonce}


def message(text, place):
    return xmltodict.unparse({"xml": {
        "ToUserName": ACCOUNT, "FromUserName": FAN, "CreateTime": int(time.time()),
        "MsgType": "text", "Content": text, "MsgId": 7_000_000_000_000_000_000 + place,
    }}, full_document=False)


def read(xml):
    """The fields of a reply; it parses as a message, as both have the same frame."""
    fields = dict(xmltodict.parse(xml)["xml"])
    assert parse_message(xml) is not None
    return fields


def post(query, body):
    answer = requests.post(task["url"], params=query, data=body.encode(),
                           headers={"Content-Type": "text/xml"}, timeout=10)
    assert answer.status_code == 200, (answer.status_code, answer.text)
    return answer


def plain(text, place):
    answer = post(signed(), message(text, place))
    return {"content_type": answer.headers["Content-Type"], "reply": read(answer.text)}


def safe(text, place):
    crypto = WeChatCrypto(task["token"], task["aes_key"], task["appid"])
    query = signed()
    envelope = crypto.encrypt_message(message(text, place), query["nonce"], query["timestamp"])
    query |= {"encrypt_type": "aes", "msg_signature": xmltodict.parse(envelope)["xml"]["MsgSignature"]}
    answer = post(query, envelope)
    reply = xmltodict.parse(answer.text)["xml"]
    frame = (reply["MsgSignature"], reply["TimeStamp"], reply["Nonce"])
    opened = crypto.decrypt_message(answer.text, *frame)
    try:
        crypto.decrypt_message(answer.text, "0" * 40, *frame[1:])
        raise AssertionError("wechatpy checks no signature")
    except InvalidSignatureException:
        pass
    return {"content_type": answer.headers["Content-Type"], "reply": read(opened)}


def handshake():
    echo = {"echostr": "1234567890"}
    good = requests.get(task["url"], params=signed() | echo, timeout=10)
    forged = requests.get(task["url"], params=signed() | echo | {"nonce": "another"}, timeout=10)
    return {"good": [good.status_code, good.text], "forged": forged.status_code}


say = safe if task["aes_key"] else plain
print(json.dumps({
    "handshake": handshake(),
    "said": [say(text, place) for place, text in enumerate(task["texts"])],
}))
