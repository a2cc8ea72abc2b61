// A stand-in for WeChat's jweixin-1.6.0.js. It asks the simulator, where the phone would ask itself.
// It makes no element and no style, and evaluates nothing, so it runs under a strict policy.
(function () {
  "use strict";
  var origin = new URL(document.currentScript.src).origin;
  var state = 0; // 0 until config is answered, 1 accepted, -1 refused
  var config = null;
  var refusal = null;
  var readyCallbacks = [];
  var errorCallbacks = [];
  var hiddenItems = {};

  function post(path, body) {
    // A text, so that the browser sends no preflight.
    return fetch(origin + path, {
      method: "POST",
      body: JSON.stringify(body),
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

  function debug() {
    if (config && config.debug) console.log.apply(console, ["[jweixin]"].concat([].slice.call(arguments)));
  }

  // success, fail, cancel, then complete, as every call of the library has them.
  function finish(name, options, outcome, data) {
    var result = Object.assign({}, data, { errMsg: name + ":" + outcome });
    debug(result.errMsg, result);
    options = options || {};
    var callback = outcome === "ok" ? options.success : outcome === "cancel" ? options.cancel : options.fail;
    if (typeof callback === "function") callback(result);
    if (typeof options.complete === "function") options.complete(result);
  }

  // A call made before config is answered waits for the answer.
  function whenAnswered(run) {
    if (state !== 0) setTimeout(run, 0);
    else {
      readyCallbacks.push(run);
      errorCallbacks.push(run);
    }
  }

  function isListed(name) {
    return config !== null && config.jsApiList.indexOf(name) >= 0;
  }

  function define(name, run) {
    return function (options) {
      whenAnswered(function () {
        if (state !== 1) finish(name, options, "the permission value is offline verifying");
        else if (!isListed(name)) finish(name, options, "permission denied");
        else run(options || {});
      });
    };
  }

  function answersOk(name, data) {
    return define(name, function (options) {
      finish(name, options, "ok", data);
    });
  }

  function shares(name) {
    return define(name, function (options) {
      var card = {
        call: name,
        page: pageUrl(),
        title: String(options.title || document.title),
        desc: String(options.desc || ""),
        link: String(options.link || pageUrl()),
        imgUrl: String(options.imgUrl || ""),
      };
      post("/sdk/share", card).then(
        function () { finish(name, options, "ok"); },
        function () { finish(name, options, "fail"); }
      );
    });
  }

  var wx = {
    config: function (options) {
      state = 0;
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
      if (state === 1) callback();
      else if (state === 0) readyCallbacks.push(callback);
    },
    error: function (callback) {
      if (state === -1) callback(refusal);
      else errorCallbacks.push(callback);
    },
    checkJsApi: function (options) {
      whenAnswered(function () {
        if (state !== 1) {
          finish("checkJsApi", options, "the permission value is offline verifying");
          return;
        }
        var checkResult = {};
        ((options && options.jsApiList) || []).forEach(function (name) {
          checkResult[name] = isListed(name) && supported.indexOf(name) >= 0;
        });
        finish("checkJsApi", options, "ok", { checkResult: checkResult });
      });
    },
    miniProgram: {
      getEnv: function (callback) {
        setTimeout(function () { callback({ miniprogram: false }); }, 0);
      },
    },
  };

  function answered(errMsg) {
    debug(errMsg);
    var isOk = errMsg === "config:ok";
    state = isOk ? 1 : -1;
    refusal = { errMsg: errMsg };
    var callbacks = isOk ? readyCallbacks : errorCallbacks;
    readyCallbacks = [];
    errorCallbacks = [];
    callbacks.forEach(function (callback) {
      if (isOk) callback();
      else callback(refusal);
    });
  }

  [
    "updateAppMessageShareData", "updateTimelineShareData", "onMenuShareTimeline",
    "onMenuShareAppMessage", "onMenuShareQQ", "onMenuShareWeibo", "onMenuShareQZone",
  ].forEach(function (name) { wx[name] = shares(name); });

  wx.getNetworkType = answersOk("getNetworkType", { networkType: "wifi" });
  wx.getLocation = answersOk("getLocation", {
    latitude: 23.1291, longitude: 113.2644, speed: 0, accuracy: 30,
  });
  ["hideOptionMenu", "showOptionMenu", "hideAllNonBaseMenuItem", "showAllNonBaseMenuItem", "closeWindow"]
    .forEach(function (name) { wx[name] = answersOk(name); });
  [["hideMenuItems", true], ["showMenuItems", false]].forEach(function (pair) {
    wx[pair[0]] = define(pair[0], function (options) {
      (options.menuList || []).forEach(function (item) { hiddenItems[item] = pair[1]; });
      finish(pair[0], options, "ok");
    });
  });

  var supported = Object.keys(wx).filter(function (name) {
    return ["config", "ready", "error", "miniProgram"].indexOf(name) < 0;
  });

  // The rest of the list is there, and says what a client says that is too old for it.
  [
    "startRecord", "stopRecord", "onVoiceRecordEnd", "playVoice", "pauseVoice", "stopVoice",
    "onVoicePlayEnd", "uploadVoice", "downloadVoice", "chooseImage", "previewImage", "uploadImage",
    "downloadImage", "getLocalImgData", "translateVoice", "openLocation", "startSearchBeacons",
    "stopSearchBeacons", "onSearchBeacons", "scanQRCode", "openProductSpecificView", "addCard",
    "chooseCard", "openCard", "consumeAndShareCard", "chooseWXPay", "openEnterpriseRedPacket",
    "openAddress", "launchMiniProgram", "openBusinessView", "openEnterpriseChat",
  ].forEach(function (name) {
    wx[name] = define(name, function (options) {
      finish(name, options, "function not exist");
    });
  });

  window.wx = window.jWeixin = wx;
})();
