// One WebSocket for the whole page: topics with cursors, reconnect with backoff and jitter, liveness both ways.
// The protocol is in docs/architecture.md ("The live feed"). What is shown is always read from the server: a frame says
// that there is news, and from which number on.

const PING_EVERY = 20_000;
const SILENCE = 45_000; // the server pings every 20 s
const FIRST_WAIT = 400;
const LONGEST_WAIT = 15_000;
const SIGNED_OUT = 4401;

class Feed extends EventTarget {
  #socket = null;
  #topics = new Map(); // name -> {cursor, handlers}
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

  // handlers: {event(frame), delta(frame), resync(seq) -> cursor or a promise of it}. Returns what ends the subscription;
  // a later subscription to the same topic takes its place, and is not ended by the earlier one's end.
  subscribe(topic, cursor, handlers) {
    const entry = { cursor, handlers };
    this.#topics.set(topic, entry);
    if (this.state === "on") this.#ask([topic]);
    else this.#now();
    return () => {
      if (this.#topics.get(topic) !== entry) return;
      this.#topics.delete(topic);
      this.#send({ type: "unsubscribe", topics: [topic] });
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
    const after = Object.fromEntries(topics.map((name) => [name, this.#topics.get(name).cursor]));
    this.#send({ type: "subscribe", topics, after });
  }

  #send(frame) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(frame));
  }

  #read(socket, frame) {
    if (socket !== this.#socket) return;
    this.#heard = Date.now();
    const topic = this.#topics.get(frame.topic);
    if (frame.type === "ping") this.#send({ type: "pong" });
    else if (frame.type === "subscribed") this.#failures = 0;
    else if (frame.type === "event" && topic && frame.seq > topic.cursor) {
      topic.cursor = frame.seq;
      topic.handlers.event?.(frame);
    } else if (frame.type === "delta" && topic) topic.handlers.delta?.(frame);
    else if (frame.type === "resync" && topic) this.#resync(frame);
    else if (frame.type === "error" && frame.code === "not_found") this.#topics.delete(frame.topic);
  }

  async #resync(frame) {
    const topic = this.#topics.get(frame.topic);
    const cursor = await topic.handlers.resync?.(frame.seq);
    if (this.#topics.get(frame.topic) !== topic) return;
    topic.cursor = cursor ?? frame.seq;
    this.#ask([frame.topic]);
  }

  #become(state) {
    if (state === this.state) return;
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }
}

export const feed = new Feed();
