// One WebSocket for the whole page: topics with cursors, reconnect with backoff and jitter, liveness both ways.
// The protocol is in docs/architecture.md ("The live feed"). What is shown is always read from the server: a frame says
// that there is news, and from which number on.

const PING_EVERY = 20_000;
const SILENCE = 45_000; // the server pings every 20 s
const FIRST_WAIT = 400;
const LONGEST_WAIT = 15_000;
const PAUSE = 2_000; // after a reading that failed
const SIGNED_OUT = 4401;
const ENDS = ["not_found", "access_ended"]; // errors that end a topic

class Feed extends EventTarget {
  #socket = null;
  #topics = new Map(); // name -> {cursor, listeners}; a cursor of null: from now on
  #failures = 0;
  #timer = 0;
  #beat = 0;
  #heard = 0;
  #asked = 0; // when an unanswered ping was sent
  #ended = false;
  state = "idle"; // idle, connecting, on, off, signed-out

  constructor() {
    super();
    addEventListener("online", () => this.#now());
    addEventListener("pagehide", () => this.#close());
    addEventListener("pageshow", (event) => event.persisted && this.#now());
    document.addEventListener("visibilitychange", () => document.hidden || this.#now());
  }

  // handlers: {event(frame), delta(frame), resync(seq) -> cursor or a promise of it}. A cursor of null means: from now on.
  // A resync that raises is made up for by the events after the listener's cursor.
  // Returns what ends the subscription. A topic may have several: each hears what comes after its own cursor.
  subscribe(name, cursor, handlers) {
    const listener = { cursor, handlers };
    const known = this.#topics.get(name);
    const topic = known ?? { cursor, listeners: new Set() };
    topic.listeners.add(listener);
    this.#topics.set(name, topic);
    const behind = known && cursor !== null && (topic.cursor === null || cursor < topic.cursor);
    if (behind) topic.cursor = cursor;
    if (this.state !== "on") this.#now();
    else if (!known || behind) this.#ask([name]);
    return () => {
      topic.listeners.delete(listener);
      if (topic.listeners.size || this.#topics.get(name) !== topic) return;
      this.#topics.delete(name);
      this.#send({ type: "unsubscribe", topics: [name] });
    };
  }

  #now() {
    if (this.#ended || this.#socket || !this.#topics.size) return;
    clearTimeout(this.#timer);
    this.#connect();
  }

  #connect() {
    this.#become("connecting");
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}/ws/feed/`);
    this.#socket = socket;
    this.#heard = Date.now();
    socket.onopen = () => {
      this.#asked = 0;
      this.#become("on");
      this.#ask([...this.#topics.keys()]);
      this.#beat = setInterval(() => this.#listen(), 5_000);
    };
    socket.onmessage = (message) => this.#read(socket, JSON.parse(message.data));
    socket.onclose = (event) => this.#lost(socket, event.code);
  }

  #close() {
    const socket = this.#socket;
    if (!socket) return;
    this.#lost(socket, 1000);
    clearTimeout(this.#timer);
    socket.close();
  }

  #lost(socket, code) {
    if (socket !== this.#socket) return;
    this.#socket = null;
    clearInterval(this.#beat);
    if (code === SIGNED_OUT) {
      this.#ended = true;
      this.#become("signed-out");
      return;
    }
    this.#become("off");
    const wait = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.#failures++);
    this.#timer = setTimeout(() => this.#now(), wait * (0.5 + Math.random() / 2));
  }

  #listen() {
    const silent = Date.now() - this.#heard;
    if (silent > SILENCE) {
      const socket = this.#socket;
      this.#lost(socket, 1006); // a half-open connection may take minutes to say so itself
      socket.close();
    } else if (silent > PING_EVERY && Date.now() - this.#asked > PING_EVERY) {
      this.#asked = Date.now();
      this.#send({ type: "ping" });
    }
  }

  #ask(names) {
    const topics = names.filter((name) => this.#topics.has(name));
    if (!topics.length) return;
    const cursors = topics.map((name) => [name, this.#topics.get(name).cursor]);
    const after = Object.fromEntries(cursors.filter(([, cursor]) => cursor !== null));
    this.#send({ type: "subscribe", topics, after, batch: true });
  }

  #send(frame) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(frame));
  }

  #read(socket, frame) {
    if (socket !== this.#socket) return;
    this.#heard = Date.now();
    if (frame.type === "batch") {
      for (const one of frame.frames) this.#read(socket, one);
      return;
    }
    const topic = this.#topics.get(frame.topic);
    if (frame.type === "ping") this.#send({ type: "pong", id: frame.id });
    else if (frame.type === "subscribed") this.#subscribed(topic, frame);
    else if (frame.type === "event" && topic && frame.seq > topic.cursor) this.#hand(topic, frame);
    else if (frame.type === "delta" && topic) topic.listeners.forEach(({ handlers }) => handlers.delta?.(frame));
    else if (frame.type === "resync" && topic) this.#resync(frame);
    else if (frame.type === "error" && ENDS.includes(frame.code)) this.#topics.delete(frame.topic);
  }

  // A cursor beyond the end is from before the studio's data was put back: what the page shows is another history.
  #subscribed(topic, frame) {
    this.#failures = 0;
    if (topic && topic.cursor === null) topic.cursor = frame.seq;
    if (frame.beyond) location.reload();
  }

  #hand(topic, frame) {
    topic.cursor = frame.seq;
    for (const listener of [...topic.listeners]) {
      if (frame.seq <= listener.cursor) continue;
      listener.cursor = frame.seq;
      listener.handlers.event?.(frame);
    }
  }

  // Whoever could not read anew stays where it was, and hears after a pause what has happened since.
  async #resync(frame) {
    const [socket, topic] = [this.#socket, this.#topics.get(frame.topic)];
    const results = await Promise.all([...topic.listeners].map((listener) => this.#anew(listener, frame.seq)));
    if (results.includes(false)) await new Promise((resolve) => setTimeout(resolve, PAUSE));
    if (this.#socket !== socket || this.#topics.get(frame.topic) !== topic) return; // a new connection has asked already
    topic.cursor = Math.min(...[...topic.listeners].map(({ cursor }) => cursor ?? frame.seq));
    this.#ask([frame.topic]);
  }

  async #anew(listener, seq) {
    try {
      listener.cursor = (await listener.handlers.resync?.(seq)) ?? seq;
      return true;
    } catch {
      return false;
    }
  }

  #become(state) {
    if (state === this.state) return;
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }
}

export const feed = new Feed();
