// The `ws` library on Node, and a map of rooms: it speaks the Phoenix format. PORT as argument.
import { WebSocketServer } from "ws"

const port = Number(process.argv[2])
const rooms = new Map()
const server = new WebSocketServer({
  host: "127.0.0.1", port, perMessageDeflate: false, clientTracking: false, backlog: 4096,
})

server.on("connection", socket => {
  const topics = new Set()
  socket.on("message", data => {
    const [joinRef, ref, topic, event, payload] = JSON.parse(data)
    if (event === "shout") {
      const text = JSON.stringify([null, null, topic, event, payload])
      for (const member of rooms.get(topic) ?? []) member.send(text)
      return
    }
    if (event === "phx_join") {
      topics.add(topic)
      if (!rooms.has(topic)) rooms.set(topic, new Set())
      rooms.get(topic).add(socket)
    }
    const response = event === "ping" ? payload : {}
    socket.send(JSON.stringify([joinRef, ref, topic, "phx_reply", { status: "ok", response }]))
  })
  socket.on("error", () => {})
  socket.on("close", () => {
    for (const topic of topics) {
      rooms.get(topic).delete(socket)
      if (!rooms.get(topic).size) rooms.delete(topic)
    }
  })
})
