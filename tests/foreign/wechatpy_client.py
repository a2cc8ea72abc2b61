"""Uses the simulator as the platform, through wechatpy's client.

Takes a JSON object as its argument: platform (the simulator's address), appid, appsecret, openid (of a
fan), redirect_uri, and config (a JS-SDK config that the backend signed) with its url.
"""

import json
import sys
from urllib.parse import parse_qs, urlsplit

import requests
from wechatpy import WeChatClient
from wechatpy.exceptions import WeChatClientException, WeChatOAuthException
from wechatpy.oauth import WeChatOAuth

task = json.loads(sys.argv[1])
openid = task["openid"]


class ToSimulator(requests.Session):
    """wechatpy has WeChat's addresses in its code."""

    def request(self, method, url, **options):
        return super().request(method, at_simulator(url), **options | {"timeout": 10})


def at_simulator(url):
    for host in ("https://api.weixin.qq.com", "https://open.weixin.qq.com"):
        url = url.replace(host, task["platform"])
    return url


def client(secret):
    made = WeChatClient(task["appid"], secret)
    made._http = ToSimulator()
    return made


def refusal(call, kind=WeChatClientException):
    try:
        call()
    except kind as why:
        return why.errcode
    return None


wechat = client(task["appsecret"])
token = wechat.fetch_access_token()
user = wechat.user.get(openid)
followers = wechat.user.get_followers()
batch = wechat.user.get_batch(followers["data"]["openid"])
ticket = wechat.jsapi.get_jsapi_ticket()
config = task["config"]
signature = wechat.jsapi.get_jsapi_signature(
    config["nonceStr"], ticket, config["timestamp"], task["url"])

# A token that the platform does not know any more: wechatpy gets a new one and repeats the call.
wechat.session.set(wechat.access_token_key, "stale", 7200)
repeated = wechat.user.get(openid)["openid"]

oauth = WeChatOAuth(task["appid"], task["appsecret"], task["redirect_uri"], "snsapi_userinfo", "aState1")
oauth._http = ToSimulator()
consented = requests.post(at_simulator(oauth.authorize_url), allow_redirects=False, timeout=10,
                          data={"_fan": openid, "_choice": "allow"})
landed = parse_qs(urlsplit(consented.headers["Location"]).query)
code = landed["code"][0]
granted = oauth.fetch_access_token(code)
profile = oauth.get_user_info()
valid = oauth.check_access_token()
refreshed = oauth.refresh_access_token(oauth.refresh_token)

print(json.dumps({
    "token": token,
    "user": user,
    "followers": followers,
    "batch": [one["openid"] for one in batch],
    "signature": signature,
    "repeated": repeated,
    "state": landed["state"][0],
    "granted": granted,
    "profile": profile,
    "valid": valid,
    "refreshed": refreshed,
    "refusals": {
        "wrong_secret": refusal(client("1" * 32).fetch_access_token),
        "unknown_openid": refusal(lambda: wechat.user.get("oNobody000000000000000000000")),
        "used_code": refusal(lambda: oauth.fetch_access_token(code), WeChatOAuthException),
    },
}))
