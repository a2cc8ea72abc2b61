// A stand-in for WeChat's jweixin-1.6.0.js. It asks the simulator, where the phone would ask itself; and
// where the page stands in the web view of the simulator's phone, that one shows what a phone shows.
// It makes no element and no style, and evaluates nothing, so it runs under a strict policy.
(function () {
  "use strict";
  var origin = new URL(document.currentScript.src).origin;
  var OFFLINE = "the permission value is offline verifying";
  var isLate = document.readyState !== "loading";

  // ---- the simulator, and its phone ----

  function post(path, body) {
    // A text, so that the browser sends no preflight.
    return fetch(origin + path, {
      method: "POST",
      body: body instanceof Blob ? body : JSON.stringify(body),
      headers: { "Content-Type": "text/plain;charset=utf-8" },
      credentials: "omit",
      referrerPolicy: "no-referrer",
    }).then(function (answer) {
      if (!answer.ok) throw new Error("status " + answer.status);
      return answer.json();
    });
  }

  function pageUrl() {
    return location.href.split("#")[0];
  }

  // Only the simulator's page hears it; in another frame or in a tab there is no phone.
  var ancestors = location.ancestorOrigins;
  var isFramed = window.parent !== window && (!ancestors || ancestors[0] === origin);
  var asked = {};
  var lastAsked = 0;

  function tellPhone(message) {
    if (isFramed) window.parent.postMessage(Object.assign({ sim: 1 }, message), origin);
  }

  // What a person does at the phone: {outcome, …}. Without a phone he does what is usual.
  function askPhone(name, parameters, usual) {
    if (!isFramed) return Promise.resolve(usual());
    lastAsked += 1;
    var id = lastAsked;
    tellPhone({ type: "ask", id: id, name: name, parameters: parameters });
    return new Promise(function (resolve) { asked[id] = resolve; });
  }

  window.addEventListener("message", function (event) {
    var message = event.data;
    if (event.source !== window.parent || event.origin !== origin || !message || message.sim !== 1) return;
    if (message.type === "answer" && asked[message.id]) {
      asked[message.id](message.answer);
      delete asked[message.id];
    } else if (message.type === "reload") location.reload();
    else if (message.type === "share" && registered[message.item]) registered[message.item]();
  });

  function introduce() {
    tellPhone({ type: "page", url: location.href, title: document.title });
  }

  // ---- config ----

  // As the real script: what `ready` was given runs after every answer to `config`, a refusal too,
  // after what `error` was given; and once there was an answer, at once.
  var state = 0; // 0 until the first answer; -1 after a refusal that nobody heard; else 1
  var config = { debug: false, jsApiList: [] };
  var granted = null; // the jsApiList of the last config, where it was accepted
  var lastAnswer = { errMsg: "config:fail" };
  var readyCallbacks = [];
  var errorCallback = null;

  function debug() {
    if (config.debug) console.log.apply(console, ["[jweixin]"].concat([].slice.call(arguments)));
  }

  function answered(errMsg) {
    debug(errMsg);
    lastAnswer = { errMsg: errMsg };
    state = 1;
    granted = errMsg === "config:ok" ? config.jsApiList : null;
    if (granted === null) {
      if (errorCallback) errorCallback(lastAnswer);
      else state = -1;
    }
    var callbacks = readyCallbacks;
    readyCallbacks = [];
    callbacks.forEach(function (callback) { callback(); });
  }

  // ---- calls ----

  // success, fail or cancel, then complete, as every call of the library has them.
  function finish(name, options, outcome, data) {
    var result = Object.assign({}, data, { errMsg: name + ":" + outcome });
    debug(result.errMsg, result);
    // A card that was taken over has told of itself.
    if (!(outcome === "ok" && /^(update\w+ShareData|send\w+|share\w+)$/.test(name))) {
      post("/sdk/call", { call: name, page: pageUrl(), errMsg: result.errMsg }).catch(function () {});
    }
    options = options || {};
    var callback = outcome === "ok" ? options.success : outcome === "cancel" ? options.cancel : options.fail;
    if (typeof callback === "function") callback(result);
    if (typeof options.complete === "function") options.complete(result);
  }

  // Answers later, as the phone does: never before the caller has gone on.
  function define(name, run) {
    return function (options) {
      setTimeout(function () {
        if (granted === null) finish(name, options, OFFLINE);
        else if (granted.indexOf(name) < 0) finish(name, options, "permission denied");
        else run(options || {});
      }, 0);
    };
  }

  function answersOk(name, data) {
    return define(name, function (options) {
      var given = typeof data === "function" ? data(options) : data;
      finish(name, options, "ok", given);
    });
  }

  // {outcome, …} as the person left it.
  function asks(name, usual, then) {
    return define(name, function (options) {
      askPhone(name, plain(options), function () { return usual(options); }).then(function (answer) {
        var outcome = answer.outcome;
        delete answer.outcome;
        if (outcome === "ok" && then) return then(options, answer);
        finish(name, options, outcome, answer);
      }).catch(function () { finish(name, options, "fail"); });
    });
  }

  // What may be sent to another window: no functions.
  function plain(options) {
    return JSON.parse(JSON.stringify(options));
  }

  function serves(name, path, member) {
    return define(name, function (options) {
      post(path, plain(options)).then(
        function (answer) {
          if (answer.error) finish(name, options, answer.error);
          else finish(name, options, "ok", member(answer));
        },
        function () { finish(name, options, "fail"); }
      );
    });
  }

  var wx = {
    config: function (options) {
      config = {
        debug: options.debug === true,
        jsApiList: Array.isArray(options.jsApiList) ? options.jsApiList : [],
      };
      post("/sdk/preVerifyJSAPI", {
        appId: options.appId,
        timestamp: options.timestamp,
        nonceStr: options.nonceStr,
        signature: options.signature,
        jsApiList: config.jsApiList,
        openTagList: options.openTagList || [],
        url: pageUrl(),
      }).then(
        function (answer) { answered(answer.errMsg); },
        function () { answered("config:fail"); }
      );
    },
    ready: function (callback) {
      if (state !== 0) callback();
      else readyCallbacks.push(callback);
    },
    error: function (callback) {
      if (state === -1) callback(lastAnswer);
      else errorCallback = callback;
    },
    // Not in need of being listed itself.
    checkJsApi: function (options) {
      setTimeout(function () {
        if (granted === null) return finish("checkJsApi", options, OFFLINE);
        var checkResult = {};
        ((options && options.jsApiList) || []).forEach(function (name) {
          checkResult[name] = granted.indexOf(name) >= 0 && supported.indexOf(name) >= 0;
        });
        finish("checkJsApi", options, "ok", { checkResult: checkResult });
      }, 0);
    },
    miniProgram: {
      getEnv: function (callback) {
        setTimeout(function () { callback({ miniprogram: false }); }, 0);
      },
    },
  };

  // ---- sharing ----

  var registered = {};

  function cardOf(options) {
    return {
      title: String(options.title || document.title),
      desc: String(options.desc || ""),
      link: String(options.link || location.href),
      imgUrl: String(options.imgUrl || ""),
    };
  }

  function keepCard(name, item, options) {
    var card = cardOf(options);
    tellPhone({ type: "card", item: item, card: card });
    return post("/sdk/share", Object.assign({ call: name, page: pageUrl() }, card));
  }

  // The newer calls set the card and are done.
  [["updateAppMessageShareData", "appMessage"], ["updateTimelineShareData", "timeline"]].forEach(function (pair) {
    wx[pair[0]] = define(pair[0], function (options) {
      keepCard(pair[0], pair[1], options).then(
        function () { finish(pair[0], options, "ok"); },
        function () { finish(pair[0], options, "fail"); }
      );
    });
  });

  // The older ones wait until somebody shares; then `trigger` may change the card.
  [
    ["onMenuShareAppMessage", "appMessage", "sendAppMessage"],
    ["onMenuShareTimeline", "timeline", "shareTimeline"],
    ["onMenuShareQQ", "qq", "shareQQ"],
    ["onMenuShareWeibo", "weiboApp", "shareWeiboApp"],
    ["onMenuShareQZone", "QZone", "shareQZone"],
  ].forEach(function (row) {
    wx[row[0]] = define(row[0], function (options) {
      keepCard(row[0], row[1], options).catch(function () {});
      registered[row[1]] = function () {
        if (typeof options.trigger === "function") options.trigger({});
        keepCard(row[0], row[1], options).catch(function () {});
        finish(row[2], options, "ok");
      };
    });
  });

  // ---- the page and its window ----

  wx.getNetworkType = answersOk("getNetworkType", { networkType: "wifi" });

  function menu(name, change) {
    wx[name] = answersOk(name, function (options) {
      tellPhone(Object.assign({ type: "menu" }, change(options)));
    });
  }
  menu("hideOptionMenu", function () { return { options: false }; });
  menu("showOptionMenu", function () { return { options: true }; });
  menu("hideMenuItems", function (options) { return { hide: options.menuList || [] }; });
  menu("showMenuItems", function (options) { return { show: options.menuList || [] }; });
  menu("hideAllNonBaseMenuItem", function () { return { hideAll: true }; });
  menu("showAllNonBaseMenuItem", function () { return { showAll: true }; });

  wx.closeWindow = define("closeWindow", function (options) {
    finish("closeWindow", options, "ok");
    if (isFramed) tellPhone({ type: "close" });
    else window.close();
  });

  // ---- pictures ----

  // A picture that nobody took: hills of a colour of their own.
  function draw() {
    var canvas = new OffscreenCanvas(480, 360);
    var pen = canvas.getContext("2d");
    var hue = Math.floor(Math.random() * 360);
    pen.fillStyle = "hsl(" + hue + " 60% 85%)";
    pen.fillRect(0, 0, 480, 360);
    [200, 250, 300].forEach(function (y, place) {
      pen.fillStyle = "hsl(" + (hue + 100) + " 30% " + (60 - 14 * place) + "%)";
      pen.beginPath();
      pen.moveTo(0, 360);
      for (var x = 0; x <= 480; x += 20) pen.lineTo(x, y + 30 * Math.sin((x + y * 3 + hue) / 50));
      pen.lineTo(480, 360);
      pen.fill();
    });
    return canvas.convertToBlob({ type: "image/jpeg", quality: 0.85 });
  }

  function keepPictures(blobs) {
    return Promise.all(blobs.map(function (blob) { return post("/sdk/picture", blob); })).then(function (kept) {
      return kept.map(function (one) { return one.localId; });
    });
  }

  wx.chooseImage = define("chooseImage", function (options) {
    askPhone("chooseImage", plain(options), function () { return { outcome: "ok" }; }).then(function (answer) {
      if (answer.outcome !== "ok") return finish("chooseImage", options, answer.outcome);
      var files = Array.isArray(answer.files) && answer.files.length ? answer.files : [draw()];
      return Promise.all(files).then(keepPictures).then(function (localIds) {
        finish("chooseImage", options, "ok", {
          localIds: localIds,
          sourceType: (options.sourceType || ["album"])[0],
        });
      });
    }).catch(function () { finish("chooseImage", options, "fail"); });
  });
  wx.previewImage = define("previewImage", function (options) {
    tellPhone({ type: "preview", current: String(options.current || ""), urls: (options.urls || []).map(String) });
    finish("previewImage", options, "ok");
  });
  wx.uploadImage = serves("uploadImage", "/sdk/upload", function (answer) { return { serverId: answer.serverId }; });
  wx.downloadImage = serves("downloadImage", "/sdk/download", function (answer) { return { localId: answer.localId }; });
  wx.getLocalImgData = serves("getLocalImgData", "/sdk/data", function (answer) { return { localData: answer.localData }; });

  // ---- voice ----

  var recording = false;
  var playEnd = [];
  wx.startRecord = define("startRecord", function (options) {
    var wasRecording = recording;
    recording = true;
    finish("startRecord", options, wasRecording ? "recording" : "ok");
  });
  wx.stopRecord = define("stopRecord", function (options) {
    if (!recording) return finish("stopRecord", options, "fail");
    recording = false;
    post("/sdk/voice", {}).then(
      function (answer) { finish("stopRecord", options, "ok", { localId: answer.localId }); },
      function () { finish("stopRecord", options, "fail"); }
    );
  });
  wx.onVoiceRecordEnd = define("onVoiceRecordEnd", function () { /* Nothing lasts a minute here. */ });
  wx.playVoice = define("playVoice", function (options) {
    finish("playVoice", options, "ok");
    setTimeout(function () {
      playEnd.forEach(function (one) { finish("onVoicePlayEnd", one, "ok", { localId: options.localId }); });
    }, 1000);
  });
  wx.pauseVoice = answersOk("pauseVoice");
  wx.stopVoice = answersOk("stopVoice");
  wx.onVoicePlayEnd = define("onVoicePlayEnd", function (options) { playEnd.push(options); });
  wx.uploadVoice = serves("uploadVoice", "/sdk/upload", function (answer) { return { serverId: answer.serverId }; });
  wx.downloadVoice = serves("downloadVoice", "/sdk/download", function (answer) { return { localId: answer.localId }; });
  wx.translateVoice = answersOk("translateVoice", { translateResult: "你好，这是模拟的语音。" });

  // ---- places and codes ----

  wx.getLocation = asks("getLocation", function () {
    return { outcome: "ok", latitude: 23.1291, longitude: 113.2644, speed: 0, accuracy: 30 };
  });
  wx.openLocation = define("openLocation", function (options) {
    tellPhone({ type: "place", place: plain(options) });
    finish("openLocation", options, "ok");
  });
  wx.scanQRCode = asks("scanQRCode", function () {
    return { outcome: "ok", resultStr: "https://example.com/" };
  }, function (options, answer) {
    if (Number(options.needResult) === 1) return finish("scanQRCode", options, "ok", answer);
    // WeChat deals with what was scanned itself, and the page learns nothing.
    finish("scanQRCode", options, "ok");
    tellPhone({ type: "open", url: answer.resultStr });
  });

  var supported = Object.keys(wx).filter(function (name) {
    return ["config", "ready", "error", "miniProgram"].indexOf(name) < 0;
  });

  // The rest of the list is there, and says what a client says that is too old for it.
  [
    "startSearchBeacons", "stopSearchBeacons", "onSearchBeacons", "openProductSpecificView", "addCard",
    "chooseCard", "openCard", "consumeAndShareCard", "chooseWXPay", "openEnterpriseRedPacket",
    "openAddress", "launchMiniProgram", "openBusinessView", "openEnterpriseChat",
  ].forEach(function (name) {
    wx[name] = define(name, function (options) {
      finish(name, options, "function not exist");
    });
  });

  if (isLate) introduce();
  else document.addEventListener("DOMContentLoaded", introduce);
  window.addEventListener("hashchange", introduce);
  window.addEventListener("pagehide", function () { tellPhone({ type: "bye" }); });
  window.wx = window.jWeixin = wx;
})();
