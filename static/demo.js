// The demo page: each button makes one call and shows what it answered.
(function () {
  'use strict';

  const TOKEN_KEY = 'offiaccount.admin-token';
  const SIGNED_IN_KEY = 'offiaccount.signed-in';
  const SCRIPT_DEADLINE_MS = 5000;
  const CONFIG_DEADLINE_MS = 8000;
  const KEPT_ANSWERS = 20;

  const $ = (id) => document.getElementById(id);

  function element(tag, className, text) {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  }

  // Private windows and some embedded browsers refuse storage. The page works without it and forgets.
  function recall(storage, key) {
    try {
      return window[storage].getItem(key) || '';
    } catch (_) {
      return '';
    }
  }

  function remember(storage, key, value) {
    try {
      if (value) window[storage].setItem(key, value);
      else window[storage].removeItem(key);
    } catch (_) {
      // Nothing to do: see above.
    }
  }

  // ---- Calls ----

  // Asks our backend. Never throws: a broken connection is an answer with status 0.
  async function call(name, path, token) {
    const headers = { Accept: 'application/json' };
    if (token) headers.Authorization = 'Bearer ' + token;
    const started = performance.now();
    const answer = { name, request: 'GET ' + path, status: 0, ok: false, body: null, text: '' };
    try {
      const response = await fetch(path, { headers, credentials: 'same-origin', cache: 'no-store' });
      answer.status = response.status;
      answer.text = await response.text();
      answer.body = JSON.parse(answer.text);
      answer.ok = response.ok;
    } catch (error) {
      if (!answer.text) answer.text = String(error);
    }
    answer.ms = Math.round(performance.now() - started);
    return answer;
  }

  // What to do about a failed call, [Chinese, English]. `audience` is who the route is for.
  function advice(answer, audience) {
    const management = audience === 'management';
    switch (answer.status) {
      case 0:
        return ['连不上服务器，请检查它是否还在运行。', 'The server cannot be reached. Is it running?'];
      case 400:
        return ['请求有误，原因见下。', 'The request was not right; see below.'];
      case 401:
        return management
          ? ['管理令牌没有填，或者不对。请填服务端 ADMIN_TOKEN 的值。', "Fill in the value of the server's ADMIN_TOKEN."]
          : ['还没有登录，或授权已过期。请点“微信登录”。', 'Not signed in, or the consent has expired. Sign in with WeChat.'];
      case 403:
        return management
          ? ['管理接口没有开放：服务端要先设置 ADMIN_TOKEN。', 'The management routes are closed until the server has an ADMIN_TOKEN.']
          : ['没有权限看这份资料。', 'You may not see this.'];
      case 502:
        return ['微信拒绝了这次调用。', 'WeChat refused the call.'];
      case 503:
        return ['服务暂时不可用，请稍后再试。', 'The service is unavailable for a moment. Try again.'];
      case 504:
        return ['微信没有按时应答，请稍后再试。', 'WeChat did not answer in time. Try again.'];
      default:
        return answer.status >= 200 && answer.status < 300
          ? ['应答不是 JSON。', 'The answer is not JSON.']
          : ['调用没有成功。', 'The call failed.'];
    }
  }

  // ---- The answers' panel ----

  function isSecret(key) {
    return /_token$|^ticket$/.test(key);
  }

  // A secret is whole in the page but cut short by the style sheet; a press shows all of it.
  function secret(text) {
    const node = element('button', 'json-string secret', text);
    node.type = 'button';
    node.title = '点按显示全部';
    node.setAttribute('aria-expanded', 'false');
    node.addEventListener('click', () => {
      const open = node.classList.toggle('open');
      node.setAttribute('aria-expanded', String(open));
    });
    return node;
  }

  // Writes a value as indented JSON into `parent`; its text content is the JSON itself.
  function writeJson(parent, value, indent, key) {
    if (Array.isArray(value) && value.length && value.every((item) => item === null || typeof item !== 'object')) {
      // Names such as those of jsApiList run on, as text does: with a line each the list hides the rest.
      const run = element('span', 'json-run');
      run.style.paddingLeft = indent.length + 2 + 'ch';
      value.forEach((item, at) => {
        if (at) run.append(', ');
        writeJson(run, item, '', '');
      });
      parent.append('[', run, indent + ']');
    } else if (Array.isArray(value) || (value && typeof value === 'object')) {
      const list = Array.isArray(value);
      const keys = Object.keys(value);
      parent.append(list ? '[' : '{');
      keys.forEach((name, at) => {
        parent.append((at ? ',' : '') + '\n' + indent + '  ');
        if (!list) parent.append(element('span', 'json-key', JSON.stringify(name)), ': ');
        writeJson(parent, value[name], indent + '  ', list ? '' : name);
      });
      if (keys.length) parent.append('\n' + indent);
      parent.append(list ? ']' : '}');
    } else if (typeof value === 'string') {
      const text = JSON.stringify(value);
      parent.append(isSecret(key || '') && value ? secret(text) : element('span', 'json-string', text));
    } else {
      parent.append(element('span', 'json-other', JSON.stringify(value)));
    }
  }

  // A link from an answer is followed only where it is a web address.
  function webLink(href) {
    try {
      const url = new URL(href, location.href);
      return url.protocol === 'http:' || url.protocol === 'https:' ? url.href : null;
    } catch (_) {
      return null;
    }
  }

  function problemBox(answer, audience) {
    const box = element('div', 'problem');
    const [chinese, english] = advice(answer, audience);
    box.append(element('p', 'problem-advice', chinese));
    const small = element('p', 'problem-english', english);
    small.lang = 'en';
    box.append(small);

    const body = answer.body && typeof answer.body === 'object' ? answer.body : {};
    const facts = element('dl', 'facts');
    for (const name of ['title', 'detail', 'code', 'errcode', 'errmsg']) {
      if (body[name] === undefined || body[name] === null || body[name] === '') continue;
      facts.append(element('dt', '', name), element('dd', '', String(body[name])));
    }
    if (facts.children.length) box.append(facts);

    const authorize = typeof body.authorize_url === 'string' && webLink(body.authorize_url);
    if (authorize) {
      const link = element('a', 'button primary small', '重新授权');
      link.href = authorize;
      box.append(link);
    }
    return box;
  }

  // Puts one answer on top of the panel.
  function show(answer, audience) {
    const entry = element('article', 'entry');
    entry.dataset.call = answer.name;
    entry.dataset.ok = String(answer.ok);

    const head = element('header', 'entry-head');
    head.append(element('h3', 'entry-name', answer.name));
    const status = answer.status === 0 ? '无应答' : String(answer.status);
    head.append(element('span', 'badge ' + (answer.ok ? 'good' : 'bad'), status));
    if (answer.ms !== undefined) head.append(element('span', 'entry-time', answer.ms + ' ms'));
    entry.append(head);
    if (answer.request) entry.append(element('p', 'entry-request', answer.request));

    if (!answer.ok && audience) entry.append(problemBox(answer, audience));
    const pre = element('pre', 'json');
    if (answer.body === null) pre.textContent = answer.text;
    else writeJson(pre, answer.body, '');
    if (pre.textContent) entry.append(pre);

    const output = $('output');
    $('output-empty').hidden = true;
    $('clear-output').hidden = false;
    output.prepend(entry);
    const entries = output.querySelectorAll('.entry');
    for (let at = KEPT_ANSWERS; at < entries.length; at += 1) entries[at].remove();
    output.scrollTop = 0;
    $('output-status').textContent = answer.name + '：' + (answer.ok ? '成功' : '失败') + '，' + status;
  }

  // On a phone the panel is below the buttons: bring a wanted answer into sight.
  function reveal() {
    const entry = document.querySelector('.entry');
    if (!entry) return;
    const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
    const hidden = entry.getBoundingClientRect().top > window.innerHeight - 120;
    if (hidden) $('output').parentElement.scrollIntoView({ block: 'start', behavior: calm ? 'auto' : 'smooth' });
  }

  // While a button's call runs the button is busy, and a second press does nothing.
  function onPress(id, work) {
    const button = $(id);
    button.addEventListener('click', async () => {
      if (button.getAttribute('aria-busy') === 'true') return;
      button.setAttribute('aria-busy', 'true');
      try {
        await work();
        reveal();
      } finally {
        button.removeAttribute('aria-busy');
      }
    });
  }

  // ---- The signed-in user ----

  function showUser(profile) {
    const user = $('user');
    const picture = $('user-picture');
    if (!profile) {
      user.dataset.state = 'signed-out';
      $('user-name').textContent = '未登录';
      $('user-note').textContent = '登录后这里是头像和昵称';
      $('user-letter').textContent = '';
      picture.hidden = true;
      picture.removeAttribute('src');
      picture.alt = '';
      return;
    }
    const name = profile.nickname || '微信用户';
    user.dataset.state = 'signed-in';
    $('user-name').textContent = name;
    $('user-note').textContent = profile.openid || '';
    $('user-letter').textContent = Array.from(name)[0];
    // WeChat's pictures die when the user changes them: the letter stands in.
    picture.hidden = true;
    picture.onload = () => { picture.hidden = false; };
    picture.onerror = () => { picture.hidden = true; };
    picture.alt = name + '的头像';
    const source = profile.headimgurl && webLink(profile.headimgurl);
    if (source) picture.src = source;
    else picture.removeAttribute('src');
  }

  async function getUser() {
    const answer = await call('获取用户信息', '/getUser');
    if (answer.ok) showUser(answer.body);
    else if (answer.status === 401) showUser(null);
    if (answer.ok || answer.status === 401) remember('localStorage', SIGNED_IN_KEY, answer.ok ? '1' : '');
    return answer;
  }

  // ---- Management ----

  async function manage(name, path) {
    const field = $('admin-token');
    const answer = await call(name, path, field.value.trim());
    if (answer.status === 401) field.setAttribute('aria-invalid', 'true');
    else field.removeAttribute('aria-invalid');
    show(answer, 'management');
  }

  // ---- JS-SDK ----

  const sdkTools = ['get-network-type', 'share', 'check-js-api'];
  let sdkScript = null;
  let attempt = 0;

  function setSdkState(state, text) {
    $('jssdk-state').dataset.state = state;
    $('jssdk-state-text').textContent = text;
    for (const id of sdkTools) $(id).disabled = state !== 'ready';
  }

  function loadScript(url) {
    return new Promise((resolve, reject) => {
      const script = document.createElement('script');
      const timer = setTimeout(() => reject(new Error('timeout: ' + url)), SCRIPT_DEADLINE_MS);
      script.onload = () => {
        clearTimeout(timer);
        if (window.wx && typeof window.wx.config === 'function') resolve();
        else reject(new Error('not the JS-SDK: ' + url));
      };
      script.onerror = () => {
        clearTimeout(timer);
        reject(new Error('not loaded: ' + url));
      };
      script.src = url;
      document.head.append(script);
    });
  }

  // Loaded at the first press and kept; after a failure the next press tries again.
  function loadSdk() {
    if (!sdkScript) {
      const { jssdkUrl, jssdkFallbackUrl } = document.body.dataset;
      sdkScript = loadScript(jssdkUrl)
        .catch((error) => {
          if (!jssdkFallbackUrl) throw error;
          return loadScript(jssdkFallbackUrl);
        })
        .catch((error) => {
          sdkScript = null;
          throw error;
        });
    }
    return sdkScript;
  }

  async function configure() {
    attempt += 1;
    const mine = attempt;
    setSdkState('loading', '正在取签名…');
    // WeChat compares the signature with the address it opened: some clients with the one shown, some
    // with the one landed on. So this page never rewrites its address, not even to drop `openid`
    // after a sign-in: the openid alone opens nothing, as only the session says who somebody is.
    const url = location.href.split('#')[0];
    const answer = await call('获取JSSDKConfig', '/getJSConfig?url=' + encodeURIComponent(url));
    show(answer, 'page');
    if (!answer.ok) {
      const body = answer.body || {};
      setSdkState('error', '取签名失败：' + (body.detail || body.title || advice(answer, 'page')[0]));
      return;
    }
    setSdkState('loading', '正在载入 SDK…');
    try {
      await loadSdk();
    } catch (error) {
      setSdkState('error', 'SDK 载入失败（' + error.message + '）');
      return;
    }
    setSdkState('loading', '等待微信核对签名…');
    const { wx } = window;
    let refused = false;
    const timer = setTimeout(() => {
      if (mine === attempt) setSdkState('error', '微信没有应答。请在微信里打开本页。');
    }, CONFIG_DEADLINE_MS);
    wx.config(answer.body);
    // WeChat's script calls `ready` after `error` too.
    wx.error((result) => {
      if (mine !== attempt) return;
      refused = true;
      clearTimeout(timer);
      const message = (result && result.errMsg) || 'config:fail';
      setSdkState('error', '签名未通过：' + message);
      showSdk('wx.config', false, result || { errMsg: message });
    });
    wx.ready(() => {
      if (mine !== attempt || refused) return;
      clearTimeout(timer);
      setSdkState('ready', '已就绪');
    });
  }

  function showSdk(name, ok, result) {
    const text = typeof result.errMsg === 'string' ? result.errMsg.replace(/^.*?:/, '') : '';
    show({ name, ok, status: text || (ok ? 'ok' : 'fail'), body: result, text: '' });
  }

  // Not awaited: a client that never calls back must not leave a button busy.
  function sdkCall(name, parameters) {
    const finish = (ok) => (result) => {
      showSdk('wx.' + name, ok, result || {});
      reveal();
    };
    if (typeof window.wx[name] !== 'function') {
      finish(false)({ errMsg: name + ':function not exist' });
      return;
    }
    window.wx[name](Object.assign({}, parameters, {
      success: finish(true),
      fail: finish(false),
      cancel: finish(false),
    }));
  }

  function share() {
    // Without the query: what is shared must not carry the sharer's openid.
    const link = location.origin + location.pathname;
    const title = 'offiaccount · 公众号演示页';
    const imgUrl = location.origin + '/share.png';
    sdkCall('updateAppMessageShareData', { title, desc: '一个程序，就是公众号的整个后端。', link, imgUrl });
    sdkCall('updateTimelineShareData', { title, link, imgUrl });
  }

  // ---- Start ----

  const field = $('admin-token');
  if (!field.value) field.value = recall('sessionStorage', TOKEN_KEY);
  field.addEventListener('input', () => {
    field.removeAttribute('aria-invalid');
    remember('sessionStorage', TOKEN_KEY, field.value.trim());
  });

  onPress('get-tokens', () => manage('getTokens', '/getTokens'));
  onPress('get-followers', () => manage('getFollowers', '/getFollowers'));
  onPress('get-user', async () => show(await getUser(), 'page'));
  onPress('get-jssdk-config', configure);
  onPress('get-network-type', () => sdkCall('getNetworkType', {}));
  onPress('share', share);
  onPress('check-js-api', () => sdkCall('checkJsApi', {
    jsApiList: ['getNetworkType', 'updateAppMessageShareData', 'updateTimelineShareData', 'scanQRCode'],
  }));
  $('clear-output').addEventListener('click', () => {
    for (const entry of document.querySelectorAll('.entry')) entry.remove();
    $('output-empty').hidden = false;
    $('clear-output').hidden = true;
    $('output-status').textContent = '已清空';
  });

  // The session's cookie is not for scripts, so whether to ask who is here is remembered: from the
  // press on 微信登录, from the last answer, or from the `openid` a sign-in came back with.
  $('wx-login').addEventListener('click', () => remember('localStorage', SIGNED_IN_KEY, '1'));
  const landed = new URLSearchParams(location.search).has('openid');
  if (landed || recall('localStorage', SIGNED_IN_KEY)) {
    getUser().then((answer) => {
      // Somebody who came back without consenting knows it; a consent that ran out is news.
      const expired = answer.body && answer.body.code === 'authorization_expired';
      if (landed || expired || answer.status !== 401) show(answer, 'page');
    });
  }
})();
