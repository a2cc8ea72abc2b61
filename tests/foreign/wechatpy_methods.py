"""Calls every method that wechatpy's client has for what the simulator simulates.

Takes a JSON object as its argument: platform (the simulator's address), appid, appsecret. Prints a list:
for each method of the package, found by looking into it, {client, method, outcome, why}. Outcomes:

    ok       every call of it was answered in the documented shape
    refused  it was refused with the documented code, which is right; why is the code
    failed   anything else; why says what
    unused   it was not called
"""

import datetime
import inspect
import json
import sys
import time
from urllib.parse import parse_qs, urlsplit

import requests
from wechatpy import WeChatClient
from wechatpy.client.base import BaseWeChatAPI
from wechatpy.exceptions import WeChatClientException, WeChatOAuthException
from wechatpy.oauth import WeChatOAuth

task = json.loads(sys.argv[1])
HOSTS = ["https://api.weixin.qq.com", "https://open.weixin.qq.com", "https://mp.weixin.qq.com"]
send = requests.Session.request


def at_simulator(url):
    for host in HOSTS:
        url = url.replace(host, task["platform"])
    return url


def send_to_simulator(session, method, url, **options):
    options["timeout"] = 10
    return send(session, method, at_simulator(url), **options)


# wechatpy has WeChat's addresses in its code.
requests.Session.request = send_to_simulator

# What files begin with.
JPG = b"\xff\xd8\xff\xe0 picture"
MP3 = b"ID3 sound"
MP4 = b"\x00\x00\x00\x18ftypmp42 film"

# The shape of an answer: a type, a value that it equals, a test, or these in dictionaries, with more
# members allowed, and in lists of one or more of a kind.
OK = {"errcode": 0, "errmsg": "ok"}


def differs(value, shape, at="answer"):
    """What is wrong with the value, or None."""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return f"{at} is {value!r}"
        for name, wanted in shape.items():
            if name not in value:
                return f"{at} has no {name}: {value!r}"
            wrong = differs(value[name], wanted, f"{at}.{name}")
            if wrong:
                return wrong
        return None
    if isinstance(shape, list) and shape:
        if not isinstance(value, list) or not value:
            return f"{at} is {value!r}"
        return next(filter(None, (differs(one, shape[0], f"{at}[]") for one in value)), None)
    if isinstance(shape, type):
        is_right = isinstance(value, shape) and (shape is bool or not isinstance(value, bool))
    elif callable(shape):
        is_right = shape(value)
    else:
        is_right = value == shape
    return None if is_right else f"{at} is {value!r}"


def text(value):
    return isinstance(value, str) and value != ""


def url(value):
    return isinstance(value, str) and value.startswith("http")


def file_of(content):
    return lambda answer: answer.status_code == 200 and answer.content == content


class Report:
    """What became of each method."""

    def __init__(self):
        self.outcomes = {}

    def note(self, method, outcome, why=""):
        # Of several calls of one method the worst counts.
        rank = ["ok", "refused", "failed"]
        known = self.outcomes.get(method)
        if known is None or rank.index(outcome) > rank.index(known[0]):
            self.outcomes[method] = (outcome, why)

    def call(self, method, call, shape):
        """The answer of a call, which is to have this shape; None where it has not."""
        try:
            answer = call()
        except Exception as why:  # whatever it is, the next method has its turn
            self.note(method, "failed", f"{type(why).__name__}: {why}")
            return None
        wrong = differs(answer, shape)
        self.note(method, "failed" if wrong else "ok", wrong or "")
        return answer

    def refused(self, method, errcode, call):
        """A call that WeChat refuses too."""
        try:
            answer = call()
        except (WeChatClientException, WeChatOAuthException) as why:
            is_right = why.errcode == errcode
            self.note(method, "refused" if is_right else "failed",
                      str(errcode) if is_right else f"{why.errcode} {why.errmsg}")
            return
        self.note(method, "failed", f"not refused: {answer!r}")


report = Report()
call, refused = report.call, report.refused


def sim(path, body=None):
    """The simulator's control side."""
    address = f"{task['platform']}/_sim/{path}"
    answer = requests.get(address) if body is None else requests.post(address, json=body)
    assert answer.status_code == 200, (path, answer.text)
    return answer.json()


def fan():
    """The openid of a new follower."""
    return sim("fans", {"nickname": "新粉丝", "subscribe": 1})["openid"]


def writer():
    """A new follower who has just written, so that the account may write to him."""
    openid = fan()
    sim("send", {"openid": openid, "MsgType": "text", "Content": "在吗"})
    return openid


client = WeChatClient(task["appid"], task["appsecret"])

# The client itself.
call("fetch_access_token", client.fetch_access_token, {"access_token": text, "expires_in": 7200})
call("access_token", lambda: client.access_token, text)
call("access_token_key", lambda: client.access_token_key, f"{task['appid']}_access_token")
for get, post in ((client.get, client.post), (client._get, client._post)):
    call("get", lambda: get("get_api_domain_ip"), {"ip_list": [str]})
    call("post", lambda: post("openapi/quota/get", data={"cgi_path": "/cgi-bin/user/get"}),
         OK | {"quota": {"daily_limit": int, "used": int, "remain": int}})

# Followers.
openid, other = fan(), fan()
PERSON = {"subscribe": 1, "openid": str, "subscribe_time": int, "remark": str, "groupid": int,
          "tagid_list": list, "subscribe_scene": text, "qr_scene": int, "qr_scene_str": str}
users = client.user
for lang in ("zh_CN", "zh_TW", "en"):
    call("user.get", lambda: users.get(openid, lang), PERSON | {"openid": openid})
call("user.get_followers", users.get_followers,
     {"total": int, "count": int, "data": {"openid": [str]}, "next_openid": text})
call("user.get_followers", lambda: users.get_followers(openid),
     {"count": 1, "data": {"openid": [other]}, "next_openid": other})
call("user.iter_followers", lambda: list(users.iter_followers())[-2:] == [openid, other], True)
call("user.update_remark", lambda: users.update_remark(openid, "老朋友"), OK)
call("user.get", lambda: users.get(openid), {"remark": "老朋友"})
call("user.get_batch", lambda: users.get_batch([openid, other]), [PERSON])
call("user.get_batch", lambda: users.get_batch([{"openid": openid, "lang": "en"}]), [PERSON])
former = "oFormerly00000000000000000001"
sim("fans", {"openid": openid, "former_openid": former})
call("user.change_openid", lambda: users.change_openid("wx00000000000000aa", [former]),
     [{"ori_openid": former, "new_openid": openid, "err_msg": "ok"}])

# Tags.
tags = client.tag
tag = (call("tag.create", lambda: tags.create("贵宾"), {"id": int, "name": "贵宾"}) or {}).get("id")
call("tag.update", lambda: tags.update(tag, "常客"), OK)
call("tag.tag_user", lambda: tags.tag_user(tag, openid), OK)
call("tag.tag_user", lambda: tags.tag_user(tag, [other]), OK)
call("tag.get", tags.get, [{"id": int, "name": text, "count": int}])
call("tag.get", lambda: {one["name"]: one["count"] for one in tags.get()}, {"常客": 2})
call("tag.get_user_tag", lambda: tags.get_user_tag(openid), [tag])
call("tag.get_tag_users", lambda: tags.get_tag_users(tag),
     {"count": 2, "data": {"openid": [str]}, "next_openid": other})
call("tag.get_tag_users", lambda: tags.get_tag_users(tag, openid), {"count": 1})
call("tag.iter_tag_users", lambda: list(tags.iter_tag_users(tag)) == [openid, other], True)
call("tag.untag_user", lambda: tags.untag_user(tag, openid), OK)
call("tag.untag_user", lambda: tags.untag_user(tag, [other]), OK)
call("tag.batch_black_list", lambda: tags.batch_black_list([other]), OK)
call("tag.get_black_list", tags.get_black_list,
     {"total": 1, "count": 1, "data": {"openid": [other]}, "next_openid": other})
call("tag.get_black_list", lambda: tags.get_black_list(other), {"total": 1, "count": 0})
call("tag.batch_unblack_list", lambda: tags.batch_unblack_list([other]), OK)
call("tag.delete", lambda: tags.delete(tag), OK)

# Groups, which came before tags.
groups = client.group
made = call("group.create", lambda: groups.create("朋友"), {"group": {"id": int, "name": "朋友"}})
group = ((made or {}).get("group") or {}).get("id", 0)
call("group.update", lambda: groups.update(group, "老友"), OK)
call("group.move_user", lambda: groups.move_user(openid, group), OK)
call("group.move_user", lambda: groups.move_user([openid, other], group), OK)
call("group.get", groups.get, [{"id": int, "name": text, "count": int}])
call("group.get", lambda: {one["name"]: one["count"] for one in groups.get()}, {"老友": 2})
call("group.get", lambda: groups.get(openid), group)
call("user.get_group_id", lambda: users.get_group_id(other), group)
call("group.delete", lambda: groups.delete(group), OK)
call("user.get_group_id", lambda: users.get_group_id(other), 0)

# Temporary files.
media = client.media
picture = call("media.upload", lambda: media.upload("image", ("a.jpg", JPG)),
               {"type": "image", "media_id": text, "created_at": int})["media_id"]
sound = call("media.upload", lambda: media.upload("voice", ("a.mp3", MP3)),
             {"type": "voice", "media_id": text, "created_at": int})["media_id"]
film = call("media.upload", lambda: media.upload("video", ("a.mp4", MP4)),
            {"type": "video", "media_id": text, "created_at": int})["media_id"]
thumb = call("media.upload", lambda: media.upload("thumb", ("a.jpg", JPG)),
             {"type": "thumb", "thumb_media_id": text, "created_at": int})["thumb_media_id"]
call("media.download", lambda: media.download(picture), file_of(JPG))
call("media.download", lambda: media.download(film), {"video_url": url})
call("media.get_url", lambda: requests.get(media.get_url(sound)), file_of(MP3))
mass_film = (call("media.upload_video", lambda: media.upload_video(film, "短片", "说明"),
                  {"type": "video", "media_id": text, "created_at": int}) or {}).get("media_id")
for method in ("upload_image", "upload_mass_image"):
    address = call(f"media.{method}", lambda: getattr(media, method)(("a.jpg", JPG)), url)
    call(f"media.{method}", lambda: requests.get(address), file_of(JPG))

# The library.
material = client.material
kept = {}
for kind, name, content in (("image", "a.jpg", JPG), ("voice", "a.mp3", MP3), ("thumb", "a.jpg", JPG)):
    shape = {"media_id": text} | ({} if kind == "voice" else {"url": url})
    kept[kind] = call("material.add", lambda: material.add(kind, (name, content)), shape)["media_id"]
    call("material.get", lambda: material.get(kept[kind]), file_of(content))
kept["video"] = call("material.add", lambda: material.add("video", ("a.mp4", MP4), "短片", "说明"),
                     {"media_id": text})["media_id"]
call("material.get", lambda: material.get(kept["video"]),
     {"title": "短片", "description": "说明", "down_url": url})
call("material.get_count", material.get_count,
     {"voice_count": 1, "video_count": 1, "image_count": 2, "news_count": int})
for kind in ("image", "voice", "video"):
    call("material.batchget", lambda: material.batchget(kind),
         {"total_count": int, "item_count": int,
          "item": [{"media_id": text, "name": text, "update_time": int}]})
call("material.delete", lambda: material.delete(kept["voice"]), OK)
call("material.delete", lambda: material.batchget("voice"), {"total_count": 0, "item": []})
article = {"thumb_media_id": kept["thumb"], "title": "第一篇", "content": "<p>正文</p>",
           "author": "作者", "digest": "摘要", "need_open_comment": 1}
# WeChat stopped these in 2022, for drafts.
refused("material.add_articles", 45106, lambda: material.add_articles([article]))
refused("material.update_article", 45106, lambda: material.update_article(picture, 0, article))
refused("material.update_articles", 45106, lambda: material.update_articles(picture, 0, [article]))

# Drafts and publishing, for which the package has no names.
ITEM = {"title": text, "author": str, "digest": str, "content": text, "content_source_url": str,
        "thumb_media_id": text, "url": url, "need_open_comment": int, "only_fans_can_comment": int}
draft = call("post", lambda: client.post("draft/add", data={"articles": [article]}),
             {"media_id": text})["media_id"]
call("post", lambda: client.post("draft/get", data={"media_id": draft}),
     {"news_item": [ITEM], "create_time": int, "update_time": int})
changed = {"media_id": draft, "index": 0, "articles": article | {"title": "改过"}}
call("post", lambda: client.post("draft/update", data=changed), OK)
call("post", lambda: client.post("draft/batchget", data={"offset": 0, "count": 20}),
     {"total_count": 1, "item_count": 1,
      "item": [{"media_id": draft, "content": {"news_item": [ITEM]}, "update_time": int}]})
call("get", lambda: client.get("draft/count"), {"total_count": 1})
call("material.get", lambda: material.get(draft), [ITEM])
published = call("post", lambda: client.post("freepublish/submit", data={"media_id": draft}),
                 OK | {"publish_id": text, "msg_data_id": int})
job = {"publish_id": published["publish_id"]}
call("post", lambda: client.post("freepublish/get", data=job), job | {"publish_status": 1})
sim("clock", {"advance_s": 60})
done = call("post", lambda: client.post("freepublish/get", data=job),
            job | {"publish_status": 0, "article_id": text, "fail_idx": [],
                   "article_detail": {"count": 1, "item": [{"idx": 1, "article_url": url}]}})
public = {"article_id": done["article_id"]}
call("post", lambda: client.post("freepublish/getarticle", data=public),
     {"news_item": [ITEM | {"is_deleted": False}]})
call("post", lambda: client.post("freepublish/batchget", data={"offset": 0, "count": 1}),
     {"total_count": 1, "item": [public | {"content": {"news_item": [ITEM]}, "update_time": int}]})

# What is published is no draft any more.
draft = call("post", lambda: client.post("draft/add", data={"articles": [article]}),
             {"media_id": text})["media_id"]

# Comments under what was published.
commented = published["msg_data_id"]
remark = sim("comments", {"openid": openid, "msg_data_id": commented, "index": 0, "content": "好文"})
remark = remark["user_comment_id"]
call("material.list_comment", lambda: material.list_comment(commented, 0),
     OK | {"total": 1, "comment": [{"user_comment_id": remark, "openid": openid, "create_time": int,
                                    "content": "好文", "comment_type": 0}]})
for method, more in (("markelect_comment", []), ("unmarkelect_comment", []),
                     ("add_reply_comment", ["谢谢"]), ("delete_reply_comment", []),
                     ("delete_comment", [])):
    call(f"material.{method}",
         lambda: getattr(material, method)(commented, 0, remark, *more), OK)
call("material.delete_comment", lambda: material.list_comment(commented, 0), {"total": 0})
call("material.close_comment", lambda: material.close_comment(commented, 0), OK)
call("material.open_comment", lambda: material.open_comment(commented, 0), OK)
call("post", lambda: client.post("freepublish/delete", data=public), OK)

# The menu.
menu = client.menu
BUTTONS = {"button": [
    {"type": "click", "name": "帮助", "key": "HELP"},
    {"name": "更多", "sub_button": [
        {"type": "view", "name": "网页", "url": "http://127.0.0.1/"},
        {"type": "scancode_waitmsg", "name": "扫码", "key": "SCAN"},
        {"type": "pic_photo_or_album", "name": "照片", "key": "PIC"},
        {"type": "location_select", "name": "位置", "key": "WHERE"},
        {"type": "media_id", "name": "图片", "media_id": kept["image"]}]}]}
BUTTON = {"name": text}
call("menu.get", menu.get, None)
call("menu.create", lambda: menu.create(BUTTONS), OK)
call("menu.update", lambda: menu.update(BUTTONS), OK)
matched = {"button": [{"type": "click", "name": "苹果", "key": "IOS"}],
           "matchrule": {"client_platform_type": "1"}}
menuid = (call("menu.add_conditional", lambda: menu.add_conditional(matched),
               {"menuid": text}) or {}).get("menuid")
call("menu.get", menu.get, {"menu": {"button": [BUTTON], "menuid": int},
                            "conditionalmenu": [{"button": [BUTTON], "matchrule": dict, "menuid": int}]})
call("menu.get_menu_info", menu.get_menu_info,
     {"is_menu_open": 1, "selfmenu_info": {"button": [BUTTON]}})
call("menu.get_menu_info",
     lambda: menu.get_menu_info()["selfmenu_info"]["button"][1]["sub_button"], {"list": [BUTTON]})
call("menu.try_match", lambda: menu.try_match(openid), {"button": [BUTTON]})
call("menu.del_conditional", lambda: menu.del_conditional(menuid), OK)
call("menu.delete", menu.delete, OK)
call("menu.delete", menu.get, None)

# Customer service.
service = client.customservice
agent = "agent1@sim"
call("customservice.add_account", lambda: service.add_account(agent, "客服", "password"), OK)
call("customservice.update_account", lambda: service.update_account(agent, "小客", "password"), OK)
call("customservice.upload_headimg", lambda: service.upload_headimg(agent, ("a.jpg", JPG)), OK)
call("customservice.get_accounts", service.get_accounts,
     [{"kf_account": agent, "kf_nick": "小客", "kf_id": text, "kf_headimgurl": url}])
sim("agents", {"kf_account": agent, "wx": "worker", "online": True})
call("customservice.get_online_accounts", service.get_online_accounts,
     [{"kf_account": agent, "status": 1, "kf_id": text, "accepted_case": 0}])
customer = writer()
call("customservice.create_session", lambda: service.create_session(customer, agent, "您好"), OK)
call("customservice.get_session", lambda: service.get_session(customer),
     {"createtime": int, "kf_account": agent})
call("customservice.get_session_list", lambda: service.get_session_list(agent),
     [{"createtime": int, "openid": customer}])
call("customservice.close_session", lambda: service.close_session(customer, agent), OK)
call("customservice.get_wait_case", service.get_wait_case, {"count": int, "waitcaselist": list})

# Messages of customer service: of every kind, in the account's name and in the agent's.
message = client.message
NEWS = [{"title": "一篇", "description": "说明", "url": "http://127.0.0.1/a", "image": address}]
PAGE = {"title": "小程序", "appid": "wx00000000000000bb", "pagepath": "index", "thumb_media_id": thumb}
CHOICES = {"head_content": "满意吗", "list": [{"id": "1", "content": "满意"}], "tail_content": "谢谢"}
for method, *arguments in (
    ("send_text", "你好，世界 🎉"),
    ("send_image", picture),
    ("send_voice", sound),
    ("send_video", film, "短片", "说明"),
    ("send_music", "http://127.0.0.1/a.mp3", "http://127.0.0.1/b.mp3", thumb, "歌", "说明"),
    ("send_articles", NEWS),
    ("send_articles", draft),
    ("send_card", "pSimCard00000000000000000001"),
    ("send_mini_program_page", PAGE),
    ("send_msg_menu", CHOICES),
):
    for account in ({}, {"account": agent}):
        call(f"message.{method}",
             lambda: getattr(message, method)(writer(), *arguments, **account), OK)
# A link is for mini programs.
refused("message.send_link", 40008, lambda: message.send_link(writer(), NEWS[0]))
now = sim("clock")["now"]
call("customservice.get_records", lambda: service.get_records(now - 3600, now + 60),
     {"recordlist": [{"openid": text, "opercode": int, "text": text, "time": int, "worker": str}],
      "number": int, "msgid": int})
call("customservice.get_records",
     lambda: service.get_records(datetime.datetime.fromtimestamp(now - 60),
                                 datetime.datetime.fromtimestamp(now + 60), 1, 1),
     {"number": 1})
call("customservice.delete_account", lambda: service.delete_account(agent), OK)

# Mass messages: to a tag, to some, to one beforehand.
news = (call("media.upload_articles", lambda: media.upload_articles([article]),
             {"type": "news", "media_id": text, "created_at": int}) or {}).get("media_id")
JOB = {"errcode": 0, "errmsg": "send job submission success", "msg_id": int, "msg_data_id": int}
SHOWN = {"errcode": 0, "errmsg": "preview success", "msg_id": int}
sent = None
for method, *arguments in (
    ("send_mass_text", "大家好"),
    ("send_mass_image", picture),
    ("send_mass_voice", sound),
    ("send_mass_video", mass_film, "短片", "说明"),
    ("send_mass_article", news),
    ("send_mass_card", "pSimCard00000000000000000001"),
):
    mass = lambda to, **more: getattr(message, method)(to, *arguments, **more)
    few = [fan(), fan()]
    tag = tags.create(method)["id"]
    tags.tag_user(tag, few)
    call(f"message.{method}", lambda: mass(tag, client_msg_id=method), JOB)
    call(f"message.{method}", lambda: mass(few), JOB)
    call(f"message.{method}", lambda: mass(few[0], preview=True), SHOWN)
    sent = call(f"message.{method}", lambda: mass(few, send_ignore_reprint=1), JOB)
call("message.send_mass_text", lambda: message.send_mass_text(None, "所有人", is_to_all=True), JOB)
status = {"msg_id": (sent or {}).get("msg_id")}
call("message.get_mass", lambda: message.get_mass(status["msg_id"]), status | {"msg_status": "SENDING"})
sim("clock", {"advance_s": 60})
call("message.get_mass", lambda: message.get_mass(status["msg_id"]),
     status | {"msg_status": "SEND_SUCCESS"})
call("message.delete_mass", lambda: message.delete_mass(status["msg_id"]), OK)
call("message.delete_mass", lambda: message.get_mass(status["msg_id"]), {"msg_status": "DELETE"})

# Templates.
template = client.template
call("template.set_industry", lambda: template.set_industry("1", "4"), OK)
CLASS = {"first_class": text, "second_class": text}
call("template.get_industry", template.get_industry,
     {"primary_industry": CLASS, "secondary_industry": CLASS})
for method in ("get", "add"):
    known = call(f"template.{method}", lambda: getattr(template, method)("TM00015"), text)
listed = call("template.get_all_private_template", template.get_all_private_template,
              {"template_list": [{"template_id": text, "title": text, "primary_industry": text,
                                  "deputy_industry": text, "content": text, "example": str}]})
content = next(one for one in listed["template_list"] if one["template_id"] == known)["content"]
names = [part.split(".DATA")[0] for part in content.split("{{")[1:]]
values = {name: {"value": "2026" if name.startswith(("amount", "character")) else "值"}
          for name in names}
values |= {name: {"value": "2026年11月20日 12:00"} for name in names if name.startswith("time")}
call("message.send_template",
     lambda: message.send_template(openid, known, values, "http://127.0.0.1/",
                                   {"appid": "wx00000000000000bb", "pagepath": "index"}),
     OK | {"msgid": int})
call("template.del_private_template", lambda: template.del_private_template(known), OK)

# One-time subscriptions and notices: to who agreed.
back = "http://127.0.0.1/back?a=1"
asked = message.get_subscribe_authorize_url(7, "SIM_ONE_TIME_TEMPLATE", back, "state1")
call("message.get_subscribe_authorize_url",
     lambda: {name: value[0] for name, value in parse_qs(urlsplit(asked).query).items()},
     {"action": "get_confirm", "appid": task["appid"], "scene": "7", "redirect_url": back,
      "template_id": "SIM_ONE_TIME_TEMPLATE", "reserved": "state1"})
sim("subscribe_notice", {"openid": openid, "template_id": "SIM_ONE_TIME_TEMPLATE"})
call("message.send_subscribe_template",
     lambda: message.send_subscribe_template(openid, "SIM_ONE_TIME_TEMPLATE", 7, "通知",
                                             {"content": {"value": "到了"}}, "http://127.0.0.1/"),
     OK)
NOTICES = "https://api.weixin.qq.com/wxaapi/newtmpl/"
categories = call("get", lambda: client.get(NOTICES + "getcategory"),
                  OK | {"data": [{"id": int, "name": text}]})["data"]
titles = call("get", lambda: client.get(NOTICES + "getpubtemplatetitles", params={
    "ids": ",".join(str(one["id"]) for one in categories), "start": 0, "limit": 30}),
              OK | {"count": int, "data": [{"tid": int, "title": text, "type": int, "categoryId": text}]})
tid = titles["data"][0]["tid"]
call("get", lambda: client.get(NOTICES + "getpubtemplatekeywords", params={"tid": tid}),
     OK | {"data": [{"kid": int, "name": text, "example": text, "rule": text}]})
chosen = {"tid": str(tid), "kidList": [1, 2], "sceneDesc": "付款"}
notice = call("post", lambda: client.post(NOTICES + "addtemplate", data=chosen),
              OK | {"priTmplId": text})["priTmplId"]
listed = call("get", lambda: client.get(NOTICES + "gettemplate"),
              OK | {"data": [{"priTmplId": notice, "title": text, "content": text, "example": text,
                              "type": int}]})["data"]
names = [part.split(".DATA")[0] for part in listed[0]["content"].split("{{")[1:]]
values = {name: {"value": "2026年11月20日 12:00" if name.startswith("time") else "12元"}
          for name in names}
sim("subscribe_notice", {"openid": openid, "template_ids": [notice]})
call("message.send_subscribe_message",
     lambda: message.send_subscribe_message(openid, notice, values, page="http://127.0.0.1/"), OK)
call("post", lambda: client.post(NOTICES + "deltemplate", data={"priTmplId": notice}), OK)

# What the console says.
call("message.get_autoreply_info", message.get_autoreply_info,
     {"is_add_friend_reply_open": int, "is_autoreply_open": int,
      "keyword_autoreply_info": {"list": list}})

# Codes.
qrcode = client.qrcode
ticket = None
for scene in (
    {"expire_seconds": 1800, "action_name": "QR_SCENE", "action_info": {"scene": {"scene_id": 123}}},
    {"expire_seconds": 1800, "action_name": "QR_STR_SCENE",
     "action_info": {"scene": {"scene_str": "门口"}}},
    {"action_name": "QR_LIMIT_SCENE", "action_info": {"scene": {"scene_id": 123}}},
    {"action_name": "QR_LIMIT_STR_SCENE", "action_info": {"scene": {"scene_str": "门口"}}},
):
    life = {"expire_seconds": 1800} if "expire_seconds" in scene else {}
    ticket = call("qrcode.create", lambda: qrcode.create(scene), {"ticket": text, "url": url} | life)
is_picture = lambda answer: (answer.status_code == 200
                             and answer.headers["Content-Type"].startswith("image/"))
call("qrcode.show", lambda: qrcode.show(ticket), is_picture)
call("qrcode.show", lambda: qrcode.show(ticket["ticket"]), is_picture)
call("qrcode.get_url", lambda: requests.get(qrcode.get_url(ticket)), is_picture)

# The rest of the server's calls.
misc = client.misc
call("misc.get_wechat_ips", misc.get_wechat_ips, [text])
# WeChat stopped it in 2021.
refused("misc.short_url", 45106, lambda: misc.short_url("http://127.0.0.1/a"))

# Statistics.
yesterday = datetime.datetime.fromtimestamp(now, datetime.timezone.utc) - datetime.timedelta(days=1)
for method, function in inspect.getmembers(client.datacube, inspect.ismethod):
    if not method.startswith("_"):
        for day in (yesterday, yesterday.strftime("%Y-%m-%d")):
            call(f"datacube.{method}", lambda: function(day, day), list)
for method, members in (
    ("get_user_summary", ["user_source", "new_user", "cancel_user"]),
    ("get_user_cumulate", ["user_source", "cumulate_user"]),
    ("get_user_read", ["int_page_read_user", "int_page_read_count", "ori_page_read_user",
                       "ori_page_read_count", "share_user", "share_count", "add_to_fav_user",
                       "add_to_fav_count"]),
    ("get_upstream_msg", ["msg_type", "msg_user", "msg_count"]),
    ("get_interface_summary", ["callback_count", "fail_count", "total_time_cost", "max_time_cost"]),
):
    call(f"datacube.{method}", lambda: getattr(client.datacube, method)(yesterday, yesterday),
         [{"ref_date": text} | {member: int for member in members}])

# Tickets and what is signed with them.
jsapi = client.jsapi
for kind in ("jsapi", "wx_card"):
    call("jsapi.get_ticket", lambda: jsapi.get_ticket(kind),
         OK | {"ticket": text, "expires_in": int})
ticket = call("jsapi.get_jsapi_ticket", jsapi.get_jsapi_ticket, text)
card_ticket = call("jsapi.get_jsapi_card_ticket", jsapi.get_jsapi_card_ticket, text)
page, stamp = "http://127.0.0.1/page?a=1", str(int(time.time()))
signed = {"appId": task["appid"], "nonceStr": "nonce", "timestamp": stamp, "url": page,
          "signature": jsapi.get_jsapi_signature("nonce", ticket, stamp, page)}
call("jsapi.get_jsapi_signature",
     lambda: requests.post(task["platform"] + "/sdk/preVerifyJSAPI", json=signed).json(),
     {"errMsg": "config:ok"})
call("jsapi.get_jsapi_card_params",
     lambda: jsapi.get_jsapi_card_params(card_ticket, "GROUPON", noncestr="n", timestamp=stamp),
     {"appid": task["appid"], "card_type": "GROUPON", "noncestr": "n", "timestamp": stamp,
      "api_ticket": card_ticket, "sign": lambda sign: len(sign) == 40})

# Signing users in.
oauth = WeChatOAuth(task["appid"], task["appsecret"], "http://127.0.0.1/landing?a=1&b=2",
                    "snsapi_userinfo", "aState1")
consented = requests.post(at_simulator(oauth.authorize_url), allow_redirects=False,
                          data={"_fan": openid, "_choice": "allow"})
landed = {name: value[0] for name, value in
          parse_qs(urlsplit(consented.headers.get("Location", "")).query).items()}
call("oauth.authorize_url", lambda: landed,
     {"a": "1", "b": "2", "state": "aState1", "code": lambda code: len(code) == 32})
GRANT = {"access_token": text, "expires_in": 7200, "refresh_token": text, "openid": openid,
         "scope": "snsapi_userinfo"}
call("oauth.fetch_access_token", lambda: oauth.fetch_access_token(landed["code"]), GRANT)
call("oauth.get_user_info", oauth.get_user_info,
     {"openid": openid, "nickname": "新粉丝", "sex": 0, "language": "", "city": "", "province": "",
      "country": "", "headimgurl": str, "privilege": []})
call("oauth.check_access_token", oauth.check_access_token, True)
call("oauth.refresh_access_token", lambda: oauth.refresh_access_token(oauth.refresh_token), GRANT)
call("oauth.get_user_info", lambda: oauth.get_user_info(lang="en"), {"openid": openid})


def offered():
    """Every public name that the package offers."""
    for name, member in inspect.getmembers(WeChatClient):
        if isinstance(member, BaseWeChatAPI):
            yield from (f"{name}.{method}" for method in offered_by(type(member)))
            for inner, part in inspect.getmembers(type(member)):
                if isinstance(part, BaseWeChatAPI):
                    yield from (f"{name}.{inner}.{method}" for method in offered_by(type(part)))
        elif is_offered(WeChatClient, name):
            yield name
    yield from (f"oauth.{method}" for method in offered_by(WeChatOAuth))


def offered_by(kind):
    shared = dir(BaseWeChatAPI) if issubclass(kind, BaseWeChatAPI) else []
    return [name for name in dir(kind) if name not in shared and is_offered(kind, name)]


def is_offered(kind, name):
    member = inspect.getattr_static(kind, name)
    is_code = inspect.isfunction(member) or isinstance(member, (property, classmethod, staticmethod))
    return is_code and not name.startswith("_")


methods = list(offered())
unknown = set(report.outcomes) - set(methods)
assert not unknown, unknown
rows = []
for method in methods:
    outcome, why = report.outcomes.get(method, ("unused", ""))
    rows.append({"client": "wechatpy", "method": method, "outcome": outcome, "why": why})
print(json.dumps(rows, ensure_ascii=False))
