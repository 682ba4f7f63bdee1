CREATE TABLE orders (id bigint PRIMARY KEY, email text NOT NULL, paid_at timestamptz, canceled_at timestamptz);
CREATE TABLE receipts (order_id bigint PRIMARY KEY REFERENCES orders, email text NOT NULL);
CREATE TABLE carts (id bigint PRIMARY KEY, touched_at timestamptz NOT NULL);
